from __future__ import annotations

import pytest

from images.instance_types import TYPES, BootMode, architecture_of, problem_with_type


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("g5.xlarge", "x86_64"),
        ("g6e.2xlarge", "x86_64"),
        ("g5g.xlarge", "arm64"),
        ("c7gn.large", "arm64"),
        ("a1.large", "arm64"),
        ("m7i-flex.large", "x86_64"),
        ("u-6tb1.metal", "x86_64"),
        ("p5.48xlarge", "x86_64"),
    ],
)
def test_architecture(name: str, architecture: str) -> None:
    """A type's architecture follows from its name, as AWS builds it."""
    assert architecture_of(name) == architecture


@pytest.mark.parametrize(
    ("name", "mode", "fits"),
    [
        ("p4d.24xlarge", "uefi", False),
        ("p4d.24xlarge", "uefi-preferred", True),
        ("p4d.24xlarge", "legacy-bios", True),
        ("c7i.large", "uefi", True),
        ("c7i.large", "legacy-bios", True),
    ],
)
def test_boot_modes(name: str, mode: BootMode, fits: bool) -> None:
    """A UEFI-only image is refused on types that boot legacy BIOS only."""
    assert (problem_with_type(name, "x86_64", mode) is None) == fits


def test_names_agree_with_the_table() -> None:
    """Every type of the table has the architecture that its name tells, and bursts above its base."""
    for name, known in TYPES.items():
        graviton = "g" in name.partition(".")[0][2:]
        assert (known.architecture == "arm64") == graviton
        assert known.ebs_mb_s[0] <= known.ebs_mb_s[1]
        assert known.network_gbps[0] <= known.network_gbps[1]
