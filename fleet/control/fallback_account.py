"""The tiers of one stack as fallback sees them, and the one setting that it changes, by boto3."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import boto3

from fleet.control.aws import CONFIG, ask
from fleet.control.fallback import Memory, Rollout, Rules, TierState
from fleet.control.fallback_record import MEMORY_TAG, read_memory, read_rules, write_memory

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client

_COMING = ("InService", "Pending")
# "Filters": up to 200 values each (EC2 API reference, DescribeInstances).
_MOST_FILTERED: Final = 200
_ROLLOUTS: Final[Mapping[str, Rollout]] = {
    "Pending": "runs",
    "InProgress": "runs",
    "Baking": "runs",
    "RollbackInProgress": "goes back",
}
# AWS's words for a launch that spot could not give, and for an account that may have no more of it. Other
# failures, such as an image that is gone, would meet on-demand nodes as well.
_NO_SPOT: Final = (
    "no spot capacity available",
    "max spot instance count exceeded",
    "your spot request price",
)
_NO_CAPACITY: Final = (
    "unfulfillablecapacity",
    "insufficientinstancecapacity",
    "insufficientcapacity",
    "maxspotinstancecountexceeded",
    "spotmaxpricetoolow",
)


@dataclass(frozen=True, slots=True)
class TierGroup:
    """One tier's Auto Scaling group, as described. `distribution` is what an update must send along."""

    name: str
    stack: str
    tier: str
    rules: Rules
    memory: Memory | None
    state: TierState
    weights: Mapping[str, int]
    """Of the members that serve or start, by instance id."""
    distribution: Mapping[str, Any]
    grace_s: float = 0.0
    """How long a new node may be unhealthy, in AWS's seconds."""
    time_scale: float = 1.0
    losing: bool = False
    """A member is on its way out."""

    def at_rest(self, now: float) -> bool:
        """Nothing is missing, nothing is raised and no step is being tried: no need to ask further."""
        least = min(self.rules.base, self.state.maximum)
        whole = sum(self.weights.values()) >= self.state.desired
        return self.state.base == least and whole and _settled(self.memory, self.rules, least, now)


class FallbackAccount:
    """Raises AwsFailed."""

    def __init__(self, stack: str, time_scale: float = 1.0) -> None:
        self._stack: Final = stack
        self._time_scale: Final = time_scale
        self._groups: AutoScalingClient = boto3.client("autoscaling", config=CONFIG)
        self._ec2: EC2Client = boto3.client("ec2", config=CONFIG)

    def tiers(self) -> list[TierGroup]:
        """Those with rules and a mixed-instances policy, in one call for a hundred groups."""
        pages = self._groups.get_paginator("describe_auto_scaling_groups").paginate(
            Filters=[{"Name": "tag:goldenfleet:stack", "Values": [self._stack]}]
        )
        found = ask(
            "DescribeAutoScalingGroups", lambda: [one for page in pages for one in page["AutoScalingGroups"]]
        )
        read = [read_group(group, self._time_scale) for group in found or []]
        return [tier for tier in read if tier is not None]

    def spot_ids(self, group: str) -> frozenset[str]:
        """Spot instances that AWS launched for the group, ended ones among them."""
        pages = self._ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": [group]}]
        )
        found = ask("DescribeInstances", lambda: [r for page in pages for r in page["Reservations"]]) or []
        instances = [one for reservation in found for one in reservation["Instances"]]
        return frozenset(one["InstanceId"] for one in instances if one.get("InstanceLifecycle") == "spot")

    def activities(self, group: str) -> Sequence[Mapping[str, Any]]:
        """The last hundred, newest first."""
        found = ask(
            "DescribeScalingActivities",
            lambda: self._groups.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=100),
            unless=("ValidationError",),
        )
        return found["Activities"] if found else []

    def launch_times(self, instance_ids: Collection[str]) -> dict[str, datetime]:
        """Of those that EC2 still knows, about an hour after their end, and of so many as one call takes."""
        some = sorted(instance_ids)[:_MOST_FILTERED]
        found = ask(
            "DescribeInstances",
            lambda: self._ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": some}]),
        )
        reservations = found["Reservations"] if found else []
        return {
            one["InstanceId"]: one["LaunchTime"]
            for reservation in reservations
            for one in reservation["Instances"]
        }

    def rollout(self, group: str) -> Rollout:
        """One without a desired configuration keeps nobody from changing the group."""
        found = ask(
            "DescribeInstanceRefreshes",
            lambda: self._groups.describe_instance_refreshes(AutoScalingGroupName=group, MaxRecords=1),
            unless=("ValidationError",),
        )
        last = next(iter(found["InstanceRefreshes"] if found else []), None)
        if last is None or "DesiredConfiguration" not in last:
            return "none"
        return _ROLLOUTS.get(last["Status"], "none")

    def cancel_rollout(self, group: str) -> None:
        """Nothing that it has launched is waited for. One that has just ended needs no cancelling."""
        ask(
            "CancelInstanceRefresh",
            lambda: self._groups.cancel_instance_refresh(
                AutoScalingGroupName=group, WaitForTransitioningInstances=False
            ),
            unless=("ActiveInstanceRefreshNotFound", "ActiveInstanceRefreshNotFoundFault"),
        )

    def remember(self, group: str, memory: Memory) -> None:
        """The group's instances do not get the tag."""
        tag = {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": MEMORY_TAG}
        ask(
            "CreateOrUpdateTags",
            lambda: self._groups.create_or_update_tags(
                Tags=[{**tag, "Value": write_memory(memory), "PropagateAtLaunch": False}]  # type: ignore[typeddict-item]
            ),
        )

    def set_base(self, group: TierGroup, base: int) -> None:
        """Nothing else changes. The template is left out, which an update allows ("not required when updating
        the group", MixedInstancesPolicy); the rest of the distribution goes along, for AWS does not say
        whether a member that is left out would get its default.
        """
        distribution: Any = {**group.distribution, "OnDemandBaseCapacity": base}
        ask(
            "UpdateAutoScalingGroup",
            lambda: self._groups.update_auto_scaling_group(
                AutoScalingGroupName=group.name, MixedInstancesPolicy={"InstancesDistribution": distribution}
            ),
        )


def read_group(group: Mapping[str, Any], time_scale: float = 1.0) -> TierGroup | None:
    """One of DescribeAutoScalingGroups; None where fallback has nothing to do with it."""
    tags = {tag["Key"]: tag["Value"] for tag in group.get("Tags", [])}
    rules, policy = read_rules(tags, time_scale), group.get("MixedInstancesPolicy")
    if rules is None or not policy:
        return None
    distribution = dict(policy.get("InstancesDistribution") or {})
    weights = dict(_weights(group["Instances"]))
    state = TierState(
        tier=tags.get("goldenfleet:tier", group["AutoScalingGroupName"]),
        desired=int(group["DesiredCapacity"]),
        maximum=int(group["MaxSize"]),
        base=int(distribution.get("OnDemandBaseCapacity") or 0),
        percent=int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100)),
        on_demand=sum(weights.values()),
        spot=0,
        in_service=sum(
            weights[one["InstanceId"]] for one in group["Instances"] if one["LifecycleState"] == "InService"
        ),
    )
    return TierGroup(
        name=group["AutoScalingGroupName"],
        stack=tags.get("goldenfleet:stack", ""),
        tier=state.tier,
        rules=rules,
        memory=read_memory(tags),
        state=state,
        weights=weights,
        distribution=distribution,
        grace_s=float(group.get("HealthCheckGracePeriod") or 0),
        time_scale=time_scale,
        losing=any(one["LifecycleState"].startswith("Terminating") for one in group["Instances"]),
    )


def _settled(memory: Memory | None, rules: Rules, base: int, now: float) -> bool:
    if memory is None:
        return True
    tried = memory.lowered > 0 and now - memory.at < rules.hold(memory.failed)
    return memory.base == base and memory.short_since is None and not tried


def _weights(members: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    for member in members:
        if member["LifecycleState"].startswith(_COMING):
            yield member["InstanceId"], int(member.get("WeightedCapacity") or 1)


def failed_launches(activities: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of spot for want of spot, and of on-demand nodes for whatever reason, in unix seconds."""
    spot, on_demand = [], []
    for activity in activities:
        said = str(activity.get("StatusMessage", ""))
        if activity["StatusCode"] != "Failed":
            continue
        if lacks_spot(said):
            spot.append(activity["StartTime"].timestamp())
        elif "could not launch on-demand instances" in said.lower():
            on_demand.append(activity["StartTime"].timestamp())
    return tuple(spot), tuple(on_demand)


def lacks_spot(status_message: str) -> bool:
    """Whether a scaling activity failed because spot has too little, or the account may have no more."""
    said = status_message.lower()
    if any(words in said for words in _NO_SPOT):
        return True
    return "could not launch spot instances" in said and any(code in said for code in _NO_CAPACITY)
