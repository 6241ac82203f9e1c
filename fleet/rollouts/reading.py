"""Rollouts as they are now: the last refresh of each tier's group, from what to what, and its alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from fleet.oncall.aws import STACK_TAG, TIER_TAG, Aws, tags
from fleet.oncall.errors import AwsFailed
from fleet.rollouts.deciding import RUNNING, specification, version_of

CHANNEL_TAG = "goldenfleet:channel"
_WAITS_AN_HOUR = 3600


@dataclass(frozen=True)
class Launched:
    """A version of a tier's template, and its image; empty where AWS does not tell any more."""

    version: str = ""
    image_id: str = ""

    def __str__(self) -> str:
        return f"{self.image_id or 'an image that is gone'} (version {self.version})"


@dataclass(frozen=True)
class Refresh:
    """One instance refresh. Times are unix seconds, durations AWS's own; words are AWS's."""

    refresh_id: str
    status: str
    reason: str
    rollback_reason: str
    percent: int
    left: int
    """Nodes that are still to be replaced."""
    started_at: float | None
    """None while it is pending."""
    ended_at: float | None
    target: Launched
    least_percent: int
    most_percent: int | None
    checkpoints: tuple[int, ...]
    checkpoint_delay_s: int
    bake_s: int
    rolls_back: bool
    one_way: bool
    """The group was changed first, and AWS has nothing to go back to."""
    alarms: Mapping[str, str]
    """Name -> state, now."""

    @property
    def running(self) -> bool:
        return self.status in RUNNING

    @property
    def ringing(self) -> tuple[str, ...]:
        return tuple(name for name, state in self.alarms.items() if state == "ALARM")


@dataclass(frozen=True)
class RolloutView:
    tier: str
    group: str
    channel: str
    """RECIPE/CHANNEL of its images; empty where nothing says it."""
    desired: int
    in_service: int
    launches: Launched
    """What the group itself says: what it launched before a rollout, until that has succeeded."""
    last: Refresh | None
    """None where nothing was rolled out in the last six weeks."""

    @property
    def running(self) -> bool:
        return self.last is not None and self.last.running

    @property
    def one_way(self) -> bool:
        return self.last is not None and self.last.one_way

    @property
    def least(self) -> int:
        """Nodes that a rollout promises to keep."""
        percent = self.last.least_percent if self.last else 100
        return math.ceil(self.desired * percent / 100)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "running": self.running, "least": self.least}


def load_rollouts(aws: Aws) -> tuple[RolloutView, ...]:
    """By tier. Raises OnCallError."""
    own = [{"Name": f"tag:{STACK_TAG}", "Values": [aws.stack]}]
    groups = aws.pages("autoscaling.describe_auto_scaling_groups", "AutoScalingGroups", Filters=own)
    return tuple(sorted((_view(aws, group) for group in groups), key=lambda view: view.tier))


def raw_last(aws: Aws, group: str) -> dict[str, Any] | None:
    """The group's last refresh, as AWS says it. Raises OnCallError."""
    answer = aws.call("autoscaling.describe_instance_refreshes", AutoScalingGroupName=group, MaxRecords=1)
    return next((dict(one) for one in answer["InstanceRefreshes"]), None)


def raw_policy(aws: Aws, group: str) -> dict[str, Any]:
    """The group's own, as AWS says it. Raises OnCallError."""
    named = {"AutoScalingGroupNames": [group]}
    found = aws.pages("autoscaling.describe_auto_scaling_groups", "AutoScalingGroups", **named)
    return next((dict(one["MixedInstancesPolicy"]) for one in found), {})


def _view(aws: Aws, group: Mapping[str, Any]) -> RolloutView:
    name, told = group["AutoScalingGroupName"], tags(group)
    last, now = raw_last(aws, name), group.get("MixedInstancesPolicy", {})
    # Without a desired configuration a refresh goes towards what the group says.
    towards = (last or {}).get("DesiredConfiguration", {}).get("MixedInstancesPolicy", now)
    images = _images(aws, [now, towards])
    return RolloutView(
        tier=told.get(TIER_TAG, ""),
        group=name,
        channel=told.get(CHANNEL_TAG, ""),
        desired=group["DesiredCapacity"],
        in_service=sum(one["LifecycleState"] == "InService" for one in group["Instances"]),
        launches=_launched(now, images),
        last=None if last is None else _refresh(aws, last, _launched(towards, images)),
    )


def _refresh(aws: Aws, last: Mapping[str, Any], target: Launched) -> Refresh:
    wanted = last.get("Preferences", {})
    alarms = wanted.get("AlarmSpecification", {}).get("Alarms", [])
    return Refresh(
        refresh_id=last["InstanceRefreshId"],
        status=last["Status"],
        reason=last.get("StatusReason", ""),
        rollback_reason=last.get("RollbackDetails", {}).get("RollbackReason", ""),
        percent=int(last.get("PercentageComplete", 0)),
        left=int(last.get("InstancesToUpdate", 0)),
        started_at=_seconds(last.get("StartTime")),
        ended_at=_seconds(last.get("EndTime")),
        target=target,
        least_percent=int(wanted.get("MinHealthyPercentage", 90)),
        most_percent=wanted.get("MaxHealthyPercentage"),
        checkpoints=tuple(map(int, wanted.get("CheckpointPercentages", ()))),
        checkpoint_delay_s=int(wanted.get("CheckpointDelay", _WAITS_AN_HOUR)),
        bake_s=int(wanted.get("BakeTime", 0)),
        rolls_back=bool(wanted.get("AutoRollback")),
        one_way="DesiredConfiguration" not in last,
        alarms=_states(aws, alarms) if last["Status"] in RUNNING else dict.fromkeys(alarms, ""),
    )


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _states(aws: Aws, alarms: Sequence[str]) -> dict[str, str]:
    if not alarms:
        return {}
    kinds = ["MetricAlarm", "CompositeAlarm"]
    found = aws.call("cloudwatch.describe_alarms", AlarmNames=list(alarms), AlarmTypes=kinds)
    there = {one["AlarmName"]: one["StateValue"] for key in _ALARM_KEYS for one in found.get(key, ())}
    return {name: there.get(name, "gone") for name in alarms}


_ALARM_KEYS = ("MetricAlarms", "CompositeAlarms")


def _launched(policy: Mapping[str, Any], images: Mapping[tuple[str, str], str]) -> Launched:
    template, version = specification(policy).get("LaunchTemplateId", ""), version_of(policy)
    return Launched(version, images.get((template, version), ""))


def _images(aws: Aws, policies: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Template and version -> image id; versions that are gone are left out."""
    found: dict[tuple[str, str], str] = {}
    for policy in policies:
        template, version = specification(policy).get("LaunchTemplateId"), version_of(policy)
        if not template or (template, version) in found:
            continue
        try:
            answer = aws.call(
                "ec2.describe_launch_template_versions", LaunchTemplateId=template, Versions=[version]
            )
        except AwsFailed:
            continue
        for one in answer["LaunchTemplateVersions"]:
            found[template, version] = one["LaunchTemplateData"].get("ImageId", "")
    return found
