"""EC2 instance types that recipes name: what they hold, carry and boot.

Bandwidths, NVMe, memory and boot modes: AWS "Amazon EC2 instance types by instance type" (specifications
of accelerated computing and general purpose instances) and "EBS-optimized instance types". Prices: AWS's
public on-demand list, Linux, us-east-1, of mid 2025; AWS changes them, so a plan names its date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

BootMode = Literal["uefi", "legacy-bios", "uefi-preferred"]
Architecture = Literal["x86_64", "arm64"]
PRICES_AS_OF = "2025-06"


@dataclass(frozen=True)
class Gpus:
    name: str
    count: int
    mib: int
    """Memory of one, as nvidia-smi tells it: less than its name's GB."""


@dataclass(frozen=True)
class InstanceType:
    name: str
    vcpus: int
    memory_gib: float
    ebs_mb_s: tuple[float, float]
    """Base and burst throughput; a burst lasts at least 30 minutes once a day."""
    network_gbps: tuple[float, float]
    """Base and burst bandwidth; bursts are best effort."""
    nvme_gb: int = 0
    gpus: Gpus | None = None
    boot_modes: frozenset[str] = frozenset({"uefi", "legacy-bios"})
    architecture: Architecture = "x86_64"
    usd_per_hour: float | None = None


_T4 = ("T4", 15_360)
_A10G = ("A10G", 23_028)
_L4 = ("L4", 23_034)
_L40S = ("L40S", 46_068)
_A100 = ("A100-40GB", 40_960)
_H100 = ("H100-80GB", 81_559)
_LEGACY = frozenset({"legacy-bios"})
_UEFI = frozenset({"uefi"})


def _gpus(kind: tuple[str, int], count: int) -> Gpus:
    return Gpus(kind[0], count, kind[1])


TYPES = {
    type_.name: type_
    for type_ in (
        InstanceType("g4dn.xlarge", 4, 16, (119, 438), (5, 25), 125, _gpus(_T4, 1), usd_per_hour=0.526),
        InstanceType("g5.xlarge", 4, 16, (88, 438), (2.5, 10), 250, _gpus(_A10G, 1), usd_per_hour=1.006),
        InstanceType("g5.2xlarge", 8, 32, (106, 438), (5, 10), 450, _gpus(_A10G, 1), usd_per_hour=1.212),
        InstanceType(
            "g5.12xlarge", 48, 192, (2000, 2000), (40, 40), 3800, _gpus(_A10G, 4), usd_per_hour=5.672
        ),
        InstanceType("g6.xlarge", 4, 16, (125, 625), (2.5, 10), 250, _gpus(_L4, 1), usd_per_hour=0.8048),
        InstanceType("g6e.2xlarge", 8, 64, (250, 625), (5, 20), 450, _gpus(_L40S, 1), usd_per_hour=2.2421),
        InstanceType(
            "g6e.12xlarge", 48, 384, (2500, 2500), (100, 100), 3800, _gpus(_L40S, 4), usd_per_hour=10.4926
        ),
        InstanceType("p4d.24xlarge", 96, 1152, (2375, 2375), (400, 400), 8000, _gpus(_A100, 8), _LEGACY),
        InstanceType("p5.48xlarge", 192, 2048, (10_000, 10_000), (3200, 3200), 30_400, _gpus(_H100, 8)),
        InstanceType("m5.xlarge", 4, 16, (143.75, 593.75), (1.25, 10), usd_per_hour=0.192),
        InstanceType("m6i.large", 2, 8, (81.25, 1250), (0.781, 12.5), usd_per_hour=0.096),
        InstanceType("m6i.xlarge", 4, 16, (156.25, 1250), (1.562, 12.5), usd_per_hour=0.192),
        InstanceType("m7i.large", 2, 8, (81.25, 1250), (0.781, 12.5), usd_per_hour=0.1008),
        InstanceType("m7i.xlarge", 4, 16, (156.25, 1250), (1.562, 12.5), usd_per_hour=0.2016),
        InstanceType("c6i.large", 2, 4, (81.25, 1250), (0.781, 12.5), usd_per_hour=0.085),
        InstanceType("c7i.large", 2, 4, (81.25, 1250), (0.781, 12.5), usd_per_hour=0.08925),
        InstanceType("c6i.2xlarge", 8, 16, (312.5, 1250), (3.125, 12.5), usd_per_hour=0.34),
        InstanceType("c7i.2xlarge", 8, 16, (312.5, 1250), (3.125, 12.5), usd_per_hour=0.357),
        InstanceType(
            "c7g.large",
            2,
            4,
            (78.75, 1250),
            (0.937, 12.5),
            boot_modes=_UEFI,
            architecture="arm64",
            usd_per_hour=0.0725,
        ),
        InstanceType(
            "c7g.2xlarge",
            8,
            16,
            (312.5, 1250),
            (3.75, 15),
            boot_modes=_UEFI,
            architecture="arm64",
            usd_per_hour=0.29,
        ),
    )
}


def architecture_of(name: str) -> Architecture:
    """From the name alone: option `g` of a family is a Graviton processor (AWS: instance type naming)."""
    known = TYPES.get(name)
    if known:
        return known.architecture
    match = re.match(r"([a-z]+)(?:-[0-9a-z]+)?(\d+)([a-z]*)", name)
    arm = match is not None and (match[1] == "a" or "g" in match[3])
    return "arm64" if arm else "x86_64"


def problem_with_type(name: str, architecture: str, boot_mode: BootMode) -> str | None:
    """Why an image of this architecture and boot mode cannot boot on the type; None when it can.

    A type that is not in the table is held to what its name tells.
    """
    actual = architecture_of(name)
    if actual != architecture:
        return f"{name} is {actual} and the image {architecture}"
    modes = TYPES[name].boot_modes if name in TYPES else _modes_by_architecture(actual)
    if boot_mode == "uefi" and "uefi" not in modes:
        return f"{name} boots legacy BIOS only: boot_mode must be legacy-bios or uefi-preferred"
    if boot_mode == "legacy-bios" and "legacy-bios" not in modes:
        return f"{name} boots UEFI only: boot_mode must be uefi or uefi-preferred"
    return None


def _modes_by_architecture(architecture: Architecture) -> frozenset[str]:
    return _UEFI if architecture == "arm64" else frozenset({"uefi", "legacy-bios"})
