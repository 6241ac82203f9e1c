"""What a group buys: weights and attributes, where moto takes any type for one and forgets the rest."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain

SMALL, LARGE = "g6.xlarge", "g6.2xlarge"


def weighted(aws: Aws, base: int = 0, **weights: int | None) -> Any:
    policy = aws.mixed(base)
    kinds = {"small": SMALL, "large": LARGE}
    policy["LaunchTemplate"]["Overrides"] = [
        {"InstanceType": kinds[size], **({"WeightedCapacity": str(weight)} if weight is not None else {})}
        for size, weight in weights.items()
    ]
    return policy


def attributes(aws: Aws, on_demand: str = "lowest-price", **more: Any) -> Any:
    policy = aws.mixed(1)
    policy["InstancesDistribution"]["OnDemandAllocationStrategy"] = on_demand
    fits = {"VCpuCount": {"Min": 4, "Max": 8}, "MemoryMiB": {"Min": 8192}, **more}
    policy["LaunchTemplate"]["Overrides"] = [{"InstanceRequirements": fits}]
    return policy


GPU = {
    "AcceleratorCount": {"Min": 1, "Max": 1},
    "AcceleratorTypes": ["gpu"],
    "AcceleratorManufacturers": ["nvidia"],
    "AcceleratorTotalMemoryMiB": {"Min": 20480},
    "InstanceGenerations": ["current"],
    "BareMetal": "excluded",
    "BurstablePerformance": "excluded",
}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([{"InstanceType": SMALL, "WeightedCapacity": "2"}, {"InstanceType": LARGE}], "weights for all"),
        ([{"InstanceType": SMALL, "WeightedCapacity": "0"}], "in the range of 1 to 999"),
        ([{"InstanceType": SMALL, "ImageId": "ami-1234"}], "no such ImageId"),
        ([{"InstanceRequirements": {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}}], "prioritized"),
        (
            [
                {"InstanceType": SMALL},
                {"InstanceRequirements": {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}},
            ],
            "can't specify InstanceType",
        ),
        (
            [
                {
                    "InstanceRequirements": {
                        "VCpuCount": {"Min": 1},
                        "MemoryMiB": {"Min": 1},
                        "CpuManufacturers": ["amd"],
                    }
                }
            ],
            "no such CpuManufacturers",
        ),
        (
            [
                {
                    "InstanceRequirements": {
                        "VCpuCount": {"Min": 1},
                        "MemoryMiB": {"Min": 1},
                        "BareMetal": "required",
                    }
                }
            ],
            "no such BareMetal",
        ),
    ],
)
def test_overrides_that_cannot_be_are_refused(
    plain: Plain, emulate: Emulate, overrides: list[dict[str, Any]], says: str
) -> None:
    """As AWS refuses them, and so is what would be accepted and not looked at."""

    def make(aws: Aws) -> None:
        policy = aws.mixed()
        policy["LaunchTemplate"]["Overrides"] = overrides
        aws.make_group(MixedInstancesPolicy=policy, DesiredCapacity=0)

    with plain() as aws:
        make(aws)
    with emulate() as aws:
        with pytest.raises(ClientError, match=says) as error:
            make(aws)
        assert error.value.response["Error"]["Code"] == "ValidationError"


def test_attributes_that_no_type_has_are_refused(emulate: Emulate) -> None:
    """In AWS's words, and no group is left."""
    with emulate() as aws:
        with pytest.raises(ClientError, match="No instance types match the specified attributes"):
            aws.make_group(MixedInstancesPolicy=attributes(aws, VCpuCount={"Min": 1000}))
        assert aws.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_weights_are_units_of_capacity(plain: Plain, emulate: Emulate) -> None:
    """Seven units are four nodes of two, and each says what it weighs, which moto's do not."""

    def made(aws: Aws) -> list[Any]:
        aws.make_group(DesiredCapacity=7, MixedInstancesPolicy=weighted(aws, large=2))
        if hasattr(aws, "tick"):
            aws.tick()
        return [one.get("WeightedCapacity") for one in aws.group()["Instances"]]

    with plain() as aws:
        assert made(aws) == [None] * 4
    with emulate() as aws:
        assert made(aws) == ["2"] * 4
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=5)
        aws.settle()
        assert len(aws.members()) == 3


def test_spot_is_compared_by_the_unit(emulate: Emulate) -> None:
    """The larger type costs more an hour, and less a unit where it counts as four."""
    with emulate() as aws:
        aws.make_group(DesiredCapacity=8, MixedInstancesPolicy=weighted(aws, small=1, large=4))
        aws.settle()
        assert {one["InstanceType"] for one in aws.group()["Instances"]} == {LARGE}


def test_the_base_is_in_units_too(emulate: Emulate) -> None:
    """Three units on demand are two nodes of two; what they are too much, spot is less."""
    with emulate() as aws:
        aws.make_group(DesiredCapacity=6, MixedInstancesPolicy=weighted(aws, base=3, large=2))
        aws.settle()
        assert aws.service_options() == ["on-demand", "on-demand", "spot"]


def test_new_weights_hold_for_old_nodes(emulate: Emulate) -> None:
    """Nodes that are worth more than they were are fewer afterwards; none goes that is still needed."""
    with emulate() as aws:
        aws.make_group(DesiredCapacity=4, MixedInstancesPolicy=weighted(aws, large=1))
        aws.settle()
        assert len(aws.members()) == 4
        aws.asg.update_auto_scaling_group(
            AutoScalingGroupName="group", MixedInstancesPolicy=weighted(aws, large=3)
        )
        aws.settle()
        assert len(aws.members()) == 2


def test_attributes_choose_types(plain: Plain, emulate: Emulate) -> None:
    """On demand takes the cheapest that fits; spot any that does; moto takes the template's type."""

    def bought(aws: Aws) -> set[str]:
        aws.make_group(DesiredCapacity=4, MixedInstancesPolicy=attributes(aws, **GPU))
        if hasattr(aws, "settle"):
            aws.settle()
        return {one["InstanceType"] for one in aws.group()["Instances"]}

    with plain() as aws:
        assert bought(aws) == {"g5.xlarge"}
    with emulate() as aws:
        found = bought(aws)
        assert "g6.xlarge" in found
        assert found <= {"g6.xlarge", "g6.2xlarge"}


def test_excluded_types_are_not_bought(emulate: Emulate) -> None:
    """Patterns with a star."""
    with emulate() as aws:
        policy = attributes(aws, **GPU, ExcludedInstanceTypes=["g6.*"])
        aws.make_group(DesiredCapacity=2, MixedInstancesPolicy=policy)
        aws.settle()
        assert {one["InstanceType"] for one in aws.group()["Instances"]} <= {"g6e.xlarge", "g6e.2xlarge"}
