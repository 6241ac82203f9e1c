"""The account, by boto3, many instances a call. Each change tolerates that it was made already; any other
failure is AwsFailed.

How many one call takes, by the API references: DescribeInstances 200 values a filter,
DescribeAutoScalingInstances 50 ids, DescribeAutoScalingGroups 50 names, DetachInstances 20 ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet.control.drain import Instance
from fleet.control.errors import AwsFailed

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

T = TypeVar("T")

# A notice lasts 120 s: better back to the queue than long in one call. Two attempts at a hanging service end
# before the function's own time, which would hide all of its notices for a visibility timeout.
CONFIG = Config(
    connect_timeout=2,
    read_timeout=4,
    retries={"mode": "standard", "max_attempts": 2},
    max_pool_connections=64,
)
STACK_TAG: Final = "goldenfleet:stack"
TIER_TAG: Final = "goldenfleet:tier"
UNDRAINED_TAG: Final = "goldenfleet:undrained"
"""On an instance: when a person last wanted it back, in unix seconds."""
HOOKS: Final = frozenset({"drain", "ready"})
"""That the stack gives its groups. Who adds another one to a group completes it, too."""

_GONE_STATES = ("shutting-down", "terminated", "stopping", "stopped")
# Target groups and tags change with an `up`, which no notice waits for.
_KNOWN_S: Final = 15.0
_FILTER_VALUES, _MEMBERS, _GROUPS, _TARGETS = 200, 50, 50, 100
DETACHED_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of instances and hooks. An instance that EC2 does not know is left out, and so is a hook
    that is not there, or not the stack's.
    """

    instances: Mapping[str, Instance] = field(default_factory=dict)
    heartbeats: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Seconds that a hook waits, by group and hook."""


class Account:
    """Clients are made once and shared by threads, which boto3 allows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}  # groups, and when they were described
        self._ec2: EC2Client = boto3.client("ec2", config=CONFIG)
        self._groups: AutoScalingClient = boto3.client("autoscaling", config=CONFIG)
        self._balancers: ElasticLoadBalancingv2Client = boto3.client("elbv2", config=CONFIG)

    def look(
        self,
        stack: str,
        ids: Collection[str],
        hooks: Collection[tuple[str, str]] = (),
        *,
        sizes: bool = False,
    ) -> Facts:
        """`hooks`: of which to know the heartbeat, by group and hook. `sizes`: whether `room` and `spare` are
        to be as of now; else groups may be as they were some seconds ago: a large one is a megabyte to tell.
        """
        described = self._describe(ids)
        ours = [one for one, found in described.items() if _tags(found).get(STACK_TAG) == stack]
        members = self._members(ours)
        named = {m["AutoScalingGroupName"] for m in members.values()} | {group for group, _ in hooks}
        groups = self._groups_by_name(named, sizes=sizes)
        instances = {one: _instance(found, members.get(one), groups) for one, found in described.items()}
        ours_by_tag = {name for name, group in groups.items() if _tags(group).get(STACK_TAG) == stack}
        own = [(group, hook) for group, hook in hooks if group in ours_by_tag and hook in HOOKS]
        return Facts(instances, self._heartbeats(own))

    def _describe(self, ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """By filter: an id that EC2 does not know fails a call that names ids, and with it all others."""
        found: list[Mapping[str, Any]] = []
        for some in chunks(ids, _FILTER_VALUES):
            found += ask("DescribeInstances", partial(self._described, some)) or []
        return {one["InstanceId"]: one for one in found}

    def _described(self, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        filters: Any = [{"Name": "instance-id", "Values": ids}]
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)
        return [one for page in pages for held in page["Reservations"] for one in held["Instances"]]

    def _members(self, ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for some in chunks(ids, _MEMBERS):
            describe = partial(self._groups.describe_auto_scaling_instances, InstanceIds=some)
            page = ask("DescribeAutoScalingInstances", describe)
            found += page["AutoScalingInstances"] if page else []
        return {one["InstanceId"]: one for one in found}

    def _groups_by_name(self, names: Collection[str], *, sizes: bool) -> dict[str, Mapping[str, Any]]:
        now = self._clock()
        fresh = {} if sizes else {n: g for n, (at, g) in self._known.copy().items() if now - at < _KNOWN_S}
        for some in chunks(sorted(set(names) - set(fresh)), _GROUPS):
            describe = partial(self._groups.describe_auto_scaling_groups, AutoScalingGroupNames=some)
            page = ask("DescribeAutoScalingGroups", describe)
            for group in page["AutoScalingGroups"] if page else []:
                fresh[group["AutoScalingGroupName"]] = group
                self._known[group["AutoScalingGroupName"]] = now, group
        return {name: fresh[name] for name in names if name in fresh}

    def _heartbeats(self, hooks: Collection[tuple[str, str]]) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        for group in sorted({group for group, _ in hooks}):
            describe = partial(self._groups.describe_lifecycle_hooks, AutoScalingGroupName=group)
            answer = ask("DescribeLifecycleHooks", describe, unless=("ValidationError",))
            for hook in answer["LifecycleHooks"] if answer else []:
                found[group, hook["LifecycleHookName"]] = float(hook["HeartbeatTimeout"])
        return {hook: found[hook] for hook in hooks if hook in found}

    def deregister(self, target_group: str, ids: Collection[str]) -> None:
        for some in chunks(ids, _TARGETS):
            targets: Any = [{"Id": one} for one in some]
            ask(
                "DeregisterTargets",
                partial(self._balancers.deregister_targets, TargetGroupArn=target_group, Targets=targets),
                unless=("TargetGroupNotFound", "InvalidTarget"),
            )

    def detach(self, group: str, ids: Sequence[str]) -> list[str]:
        """Of at most DETACHED_AT_ONCE, those that were detached: one that has left, or is leaving, is already
        what was wanted, and fails AWS's call for all others (ValidationError).
        """
        if _changed("DetachInstances", lambda: self._detach_call(group, ids)):
            return list(ids)
        return [] if len(ids) == 1 else [one for each in ids for one in self.detach(group, [each])]

    def _detach_call(self, group: str, ids: Sequence[str]) -> object:
        return self._groups.detach_instances(
            InstanceIds=ids, AutoScalingGroupName=group, ShouldDecrementDesiredCapacity=False
        )

    def enter_standby(self, group: str, instance_id: str) -> None:
        """Fails for what is not in service: then there is more to know before anything is done."""
        ask(
            "EnterStandby",
            lambda: self._groups.enter_standby(
                InstanceIds=[instance_id], AutoScalingGroupName=group, ShouldDecrementDesiredCapacity=False
            ),
        )

    def exit_standby(self, group: str, instance_id: str) -> None:
        """Fails for what is not in standby, and where the group would grow beyond its max."""
        ask(
            "ExitStandby",
            lambda: self._groups.exit_standby(InstanceIds=[instance_id], AutoScalingGroupName=group),
        )

    def retire(self, instance_id: str) -> None:
        """No member any more is what was wanted."""
        ask(
            "TerminateInstanceInAutoScalingGroup",
            lambda: self._groups.terminate_instance_in_auto_scaling_group(
                InstanceId=instance_id, ShouldDecrementDesiredCapacity=False
            ),
            unless=("ValidationError",),
        )

    def remember_undrain(self, instance_id: str, at: float) -> None:
        tags: Any = [{"Key": UNDRAINED_TAG, "Value": f"{at:.3f}"}]
        ask("CreateTags", lambda: self._ec2.create_tags(Resources=[instance_id], Tags=tags))

    def complete(self, instance_id: str, group: str, hook: str, token: str | None) -> None:
        """A hook that no longer waits was completed before, or ran out (ValidationError)."""
        named: Any = {"LifecycleActionToken": token} if token else {"InstanceId": instance_id}
        ask(
            "CompleteLifecycleAction",
            lambda: self._groups.complete_lifecycle_action(
                AutoScalingGroupName=group, LifecycleHookName=hook, LifecycleActionResult="CONTINUE", **named
            ),
            unless=("ValidationError",),
        )


def chunks(ids: Collection[str], size: int) -> Iterator[list[str]]:
    every = list(ids)
    for start in range(0, len(every), size):
        yield every[start : start + size]


def ask(operation: str, call: Callable[[], T], unless: Sequence[str] = ()) -> T | None:
    """The seam to botocore. An error whose code is in `unless` gives None."""
    try:
        return call()
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code", "Unknown")
        if code in unless:
            return None
        raise AwsFailed(operation, code, str(exc)) from exc
    except BotoCoreError as exc:
        raise AwsFailed(operation, type(exc).__name__, str(exc)) from exc


def _changed(operation: str, call: Callable[[], object]) -> bool:
    """Whether the call went through; False where it changes nothing (ValidationError)."""
    return ask(operation, lambda: (call(),), unless=("ValidationError",)) is not None


def _instance(
    described: Mapping[str, Any], member: Mapping[str, Any] | None, groups: Mapping[str, Mapping[str, Any]]
) -> Instance:
    tags = _tags(described)
    name = member["AutoScalingGroupName"] if member else None
    group = groups.get(name, {}) if name else {}
    return Instance(
        instance_id=described["InstanceId"],
        stack=tags.get(STACK_TAG),
        address=described.get("PrivateIpAddress"),
        alive=described["State"]["Name"] not in _GONE_STATES,
        group=name,
        member_state=member["LifecycleState"] if member else None,
        target_groups=tuple(group.get("TargetGroupARNs", ())),
        tier=tags.get(TIER_TAG),
        room=group.get("DesiredCapacity", 0) < group.get("MaxSize", 0),
        spare=spare(group),
        undrained_at=_seconds(tags.get(UNDRAINED_TAG)),
    )


def spare(group: Mapping[str, Any]) -> int:
    """Members: a tenth of what the group wants, one at least; what it lacks has left already. That is how
    Auto Scaling replaces nodes that fail their health checks (user guide, "How Amazon EC2 Auto Scaling
    minimizes downtime").
    """
    members, wants = group.get("Instances", ()), int(group.get("DesiredCapacity", 0))
    serving = [int(m.get("WeightedCapacity") or 1) for m in members if m["LifecycleState"] == "InService"]
    largest = max(serving, default=1)
    return max(0, max(largest, wants // 10) - max(0, wants - sum(serving))) // largest


def _tags(holder: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in holder.get("Tags", ())}


def _seconds(text: str | None) -> float | None:
    """Anybody may write a tag."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
