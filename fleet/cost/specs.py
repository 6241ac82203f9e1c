"""What instance types have, for all types that the table of prices has; and which of them meet requirements.

instance_types.json holds what AWS's DescribeInstanceTypes says, as moto 5.2.5 brings it along, and a test
compares. Matching: "InstanceRequirements" in the Auto Scaling API reference, as far as a stack's settings go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

Architecture = Literal["arm64", "x86_64"]

ON_DEMAND_PROTECTION_PERCENT = 20
"""AWS leaves out, for on demand, types that cost so much more than the cheapest that fits, unless it is told
otherwise (OnDemandMaxPricePercentageOverLowestPrice).
"""
SPOT_PROTECTION_PERCENT = 100
"""What AWS does for spot unless it is told, it calls optimal and does not say; this was its rule before."""

_TABLE = Path(__file__).parent / "instance_types.json"


class Spec(BaseModel):
    """One type. `accelerators` are GPUs and all others."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    vcpus: int
    memory_mib: int
    architecture: Architecture
    accelerators: int = 0
    nvidia_gpus: int = 0
    gpu_memory_mib: int = 0
    disks: bool = False
    current: bool = True
    burstable: bool = False
    bare_metal: bool = False


@dataclass(frozen=True)
class Bounds:
    least: int = 0
    most: int | None = None

    def hold(self, value: int) -> bool:
        return self.least <= value and (self.most is None or value <= self.most)


ANY = Bounds()


@dataclass(frozen=True)
class Requirements:
    """Of current types that are neither burstable nor bare metal, which is all that a stack asks for."""

    vcpus: Bounds
    memory_mib: Bounds
    architecture: Architecture
    accelerators: Bounds = ANY
    nvidia: bool = False
    gpu_memory_mib: Bounds = ANY
    disks: Literal["included", "excluded", "required"] = "included"
    excluded: tuple[str, ...] = ()
    """Patterns, with * for any text."""

    def met_by(self, kind: str, spec: Spec) -> bool:
        return (
            spec.architecture == self.architecture
            and spec.current
            and not (spec.burstable or spec.bare_metal)
            and self.vcpus.hold(spec.vcpus)
            and self.memory_mib.hold(spec.memory_mib)
            and self._accelerated(spec)
            and (self.disks == "included" or spec.disks == (self.disks == "required"))
            and not any(fnmatchcase(kind, pattern) for pattern in self.excluded)
        )

    def _accelerated(self, spec: Spec) -> bool:
        if not self.accelerators.hold(spec.accelerators) or not self.gpu_memory_mib.hold(spec.gpu_memory_mib):
            return False
        return not self.nvidia or spec.nvidia_gpus == spec.accelerators > 0


@cache
def bundled_specs() -> Mapping[str, Spec]:
    adapter = TypeAdapter(dict[str, Spec])
    return adapter.validate_json(_TABLE.read_text(encoding="utf-8"))


def matching(wanted: Requirements) -> tuple[str, ...]:
    """The types that meet it, by name."""
    return tuple(sorted(kind for kind, spec in bundled_specs().items() if wanted.met_by(kind, spec)))


def protected(prices: Mapping[str, float], percent: int = ON_DEMAND_PROTECTION_PERCENT) -> tuple[str, ...]:
    """The types of `prices` that cost at most `percent` more than what AWS compares with: the cheapest of
    families C, M or R, or of all where none of those is among them.
    """
    plain = [usd for kind, usd in prices.items() if kind[0] in "cmr" and kind[1].isdigit()]
    lowest = min(plain or prices.values())
    return tuple(kind for kind, usd in prices.items() if usd <= lowest * (1 + percent / 100))
