"""What types have, and which of them meet requirements."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import moto
import pytest

from fleet.cost import bundled_table
from fleet.cost.specs import Bounds, Requirements, Spec, bundled_specs, matching, protected

KNOWN = Path(moto.__file__).parent / "ec2/resources/instance_types.json.gz"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """DescribeInstanceTypes, by type."""
    return json.loads(gzip.decompress(KNOWN.read_bytes()))  # type: ignore[no-any-return]


def test_every_priced_type_is_told_as_aws_tells_it(described: dict[str, Any]) -> None:
    """A type that is added to the table of prices is missing here until it is added too."""
    specs = bundled_specs()
    assert set(specs) == set(bundled_table().on_demand.usd_per_hour)
    for kind, spec in specs.items():
        one = described[kind]
        gpus = one.get("GpuInfo", {})
        nvidia = [gpu["Count"] for gpu in gpus.get("Gpus", []) if gpu["Manufacturer"] == "NVIDIA"]
        assert (spec.vcpus, spec.memory_mib) == (
            one["VCpuInfo"]["DefaultVCpus"],
            one["MemoryInfo"]["SizeInMiB"],
        )
        assert spec.architecture in one["ProcessorInfo"]["SupportedArchitectures"]
        assert (spec.nvidia_gpus, spec.gpu_memory_mib) == (sum(nvidia), gpus.get("TotalGpuMemoryInMiB", 0))
        assert (spec.disks, spec.current) == (one["InstanceStorageSupported"], one["CurrentGeneration"])
        assert (spec.burstable, spec.bare_metal) == (one["BurstablePerformanceSupported"], one["BareMetal"])
        assert spec.accelerators >= spec.nvidia_gpus


SPEC = Spec(vcpus=4, memoryMib=16384, architecture="x86_64")
CARD = Spec(
    vcpus=4,
    memoryMib=16384,
    architecture="x86_64",
    accelerators=1,
    nvidiaGpus=1,
    gpuMemoryMib=22888,
    disks=True,
)


def wanted(**changes: Any) -> Requirements:
    return Requirements(
        **{"vcpus": Bounds(4), "memory_mib": Bounds(8192), "architecture": "x86_64", **changes}
    )


@pytest.mark.parametrize(
    ("changes", "spec"),
    [
        ({"vcpus": Bounds(5)}, SPEC),
        ({"vcpus": Bounds(1, 3)}, SPEC),
        ({"memory_mib": Bounds(16385)}, SPEC),
        ({"architecture": "arm64"}, SPEC),
        ({"accelerators": Bounds(0, 0)}, CARD),
        ({"accelerators": Bounds(1)}, SPEC),
        ({"nvidia": True}, SPEC),
        ({"nvidia": True}, CARD.model_copy(update={"nvidia_gpus": 0})),
        ({"gpu_memory_mib": Bounds(22889)}, CARD),
        ({"disks": "excluded"}, CARD),
        ({"disks": "required"}, SPEC),
        ({"excluded": ("z9*",)}, SPEC),
        ({}, SPEC.model_copy(update={"current": False})),
        ({}, SPEC.model_copy(update={"burstable": True})),
        ({}, SPEC.model_copy(update={"bare_metal": True})),
    ],
)
def test_what_lacks_something_does_not_fit(changes: dict[str, Any], spec: Spec) -> None:
    """Each requirement alone is enough to leave a type out."""
    assert not wanted(**changes).met_by("z9.xlarge", spec)


def test_what_has_everything_fits() -> None:
    """Limits included; patterns of other types leave it alone."""
    assert wanted(vcpus=Bounds(4, 4), excluded=("z8*", "*.2xlarge")).met_by("z9.xlarge", SPEC)
    assert wanted(nvidia=True, accelerators=Bounds(1, 1), disks="required").met_by("z9.xlarge", CARD)


def test_types_of_the_table_are_found() -> None:
    """One GPU of at least 40 GiB on a small machine."""
    big = wanted(vcpus=Bounds(4, 8), accelerators=Bounds(1, 1), nvidia=True, gpu_memory_mib=Bounds(40_000))
    assert matching(big) == ("g6e.2xlarge", "g6e.xlarge")


def test_costly_types_are_left_out() -> None:
    """Compared with the cheapest of C, M and R; where there are none, with the cheapest of all."""
    prices = {"c7i.large": 1.0, "m7i.large": 1.2, "r7i.large": 1.21, "g6.xlarge": 0.5}
    assert protected(prices) == ("c7i.large", "m7i.large", "g6.xlarge")
    assert protected({"g6.xlarge": 1.0, "p5.4xlarge": 9.0, "gr6.xlarge": 1.1}) == ("g6.xlarge", "gr6.xlarge")
