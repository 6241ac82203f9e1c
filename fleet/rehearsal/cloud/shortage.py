"""Shortages that a rehearsal asks for: for some time groups get nothing of a purchase option, in AWS's words.

The words are those of DescribeScalingActivities as people report them: hortonworks/cloudbreak#11254 and
mludvig/aws-ethereum-miner#23 for `unfulfillable`, aws/aws-parallelcluster#1944 for `no-capacity`, and
aws-deepracer-community/deepracer-on-the-spot#55 for `quota`, which is the account's own limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from fleet.rehearsal.cloud.records import Group
from fleet.rehearsal.cloud.views import PurchaseOption
from fleet.rehearsal.cloud.world import World

Refusal = Literal["unfulfillable", "no-capacity", "quota"]

UNFULFILLABLE: Final = (
    "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your "
    "request configuration. Please adjust your request and try again."
)
NO_ON_DEMAND: Final = (
    "Could not launch On-Demand Instances. InsufficientInstanceCapacity - There is no capacity available "
    "that matches your request."
)
_NO_VCPUS: Final = (
    "Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU capacity than "
    "your current vCPU limit allows for the instance bucket that the specified instance type belongs to."
)
_WORDS: Mapping[tuple[PurchaseOption, Refusal], str] = {
    ("spot", "unfulfillable"): UNFULFILLABLE,
    ("spot", "no-capacity"): "There is no Spot capacity available that matches your request.",
    ("spot", "quota"): "Max spot instance count exceeded.",
    ("on-demand", "unfulfillable"): NO_ON_DEMAND,
    ("on-demand", "no-capacity"): NO_ON_DEMAND,
    ("on-demand", "quota"): _NO_VCPUS,
}


@dataclass(frozen=True)
class Shortage:
    """`group` is an Auto Scaling group's name, None for all of them; it lasts to `until` (unix seconds)."""

    option: PurchaseOption
    group: str | None
    until: float
    refusal: Refusal


def begin(
    world: World, option: PurchaseOption, group: str | None, seconds: float, refusal: Refusal
) -> Shortage:
    """From now on for so many of AWS's seconds."""
    shortage = Shortage(option, group, world.clock() + world.scaled(seconds), refusal)
    world.shortages.append(shortage)
    world.tell("shortage.began", None, group, option=option, until=f"{shortage.until:.3f}")
    return shortage


def end(world: World) -> None:
    """All of them, at once; a group tries again when it would have."""
    world.shortages.clear()


def refusal_of(world: World, group: Group, option: PurchaseOption) -> str | None:
    """Why the group gets no instance of the option now, or None where nothing was asked for."""
    now = world.clock()
    world.shortages[:] = [shortage for shortage in world.shortages if now < shortage.until]
    for shortage in world.shortages:
        if shortage.option == option and shortage.group in (None, group.name):
            return _WORDS[option, shortage.refusal]
    return None
