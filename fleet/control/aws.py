"""The account, by boto3. Each change tolerates that it was made already; any other failure is AwsFailed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

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

# A notice lasts 120 s: better back to the queue than long in one call.
CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "standard", "max_attempts": 3},
    max_pool_connections=32,
)
_GONE_STATES = ("shutting-down", "terminated", "stopping", "stopped")


class Account:
    """Clients are made once and shared by threads, which boto3 allows."""

    def __init__(self) -> None:
        self._ec2: EC2Client = boto3.client("ec2", config=CONFIG)
        self._groups: AutoScalingClient = boto3.client("autoscaling", config=CONFIG)
        self._balancers: ElasticLoadBalancingv2Client = boto3.client("elbv2", config=CONFIG)

    def instance(self, instance_id: str) -> Instance | None:
        """None when EC2 does not know it, or not any more."""
        found = ask(
            "DescribeInstances",
            lambda: self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"],
            unless=("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"),
        )
        if not found:
            return None
        described = found[0]["Instances"][0]
        tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}
        group, member_state = self._membership(instance_id)
        return Instance(
            instance_id=instance_id,
            stack=tags.get("goldenfleet:stack"),
            address=described.get("PrivateIpAddress"),
            alive=described["State"]["Name"] not in _GONE_STATES,
            group=group,
            member_state=member_state,
            target_groups=self._target_groups(group) if group else (),
        )

    def _membership(self, instance_id: str) -> tuple[str | None, str | None]:
        found = ask(
            "DescribeAutoScalingInstances",
            lambda: self._groups.describe_auto_scaling_instances(InstanceIds=[instance_id]),
        )
        members = found["AutoScalingInstances"] if found else []
        return (members[0]["AutoScalingGroupName"], members[0]["LifecycleState"]) if members else (None, None)

    def _target_groups(self, group: str) -> tuple[str, ...]:
        found = ask(
            "DescribeAutoScalingGroups",
            lambda: self._groups.describe_auto_scaling_groups(AutoScalingGroupNames=[group]),
        )
        groups = found["AutoScalingGroups"] if found else []
        return tuple(arn for one in groups for arn in one.get("TargetGroupARNs", []))

    def heartbeat_s(self, group: str, hook: str) -> float | None:
        """How long the hook waits; None when there is no such hook."""
        found = ask(
            "DescribeLifecycleHooks",
            lambda: self._groups.describe_lifecycle_hooks(
                AutoScalingGroupName=group, LifecycleHookNames=[hook]
            ),
            unless=("ValidationError",),
        )
        hooks = found["LifecycleHooks"] if found else []
        return next((float(one["HeartbeatTimeout"]) for one in hooks), None)

    def deregister(self, instance_id: str, target_groups: Sequence[str]) -> None:
        deregister = self._balancers.deregister_targets
        for arn in target_groups:
            ask(
                "DeregisterTargets",
                partial(deregister, TargetGroupArn=arn, Targets=[{"Id": instance_id}]),
                unless=("TargetGroupNotFound", "InvalidTarget"),
            )

    def detach(self, instance_id: str, group: str) -> None:
        """A member that is no longer one, or is leaving, is what was wanted (ValidationError)."""
        ask(
            "DetachInstances",
            lambda: self._groups.detach_instances(
                InstanceIds=[instance_id], AutoScalingGroupName=group, ShouldDecrementDesiredCapacity=False
            ),
            unless=("ValidationError",),
        )

    def complete(self, instance_id: str, group: str, hook: str, token: str | None) -> None:
        """A hook that no longer waits was completed before, or ran out (ValidationError)."""
        named = {"LifecycleActionToken": token} if token else {"InstanceId": instance_id}
        ask(
            "CompleteLifecycleAction",
            lambda: self._groups.complete_lifecycle_action(
                AutoScalingGroupName=group, LifecycleHookName=hook, LifecycleActionResult="CONTINUE", **named
            ),
            unless=("ValidationError",),
        )


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
