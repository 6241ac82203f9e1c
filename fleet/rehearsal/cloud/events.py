"""Events of EC2 and Auto Scaling in AWS's shapes, put on moto's default event bus."""

from __future__ import annotations

import json
from typing import Any

from moto.events.models import Rule, events_backends
from moto.events.utils import EventTemplateParser

from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Activity, Group, HookWait, Machine, Member
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World

# The envelope as AWS sends it; moto's default leaves `account` out.
_ENVELOPE = (
    '{"version": "0", "id": "<id>", "detail-type": "<detail-type>", "source": "<source>", '
    '"account": "<account>", "time": <time>, "region": "<region>", "resources": <resources>, '
    '"detail": <detail>}'
)
_DIRECTIONS = {
    "autoscaling:EC2_INSTANCE_LAUNCHING": ("EC2 Instance-launch Lifecycle Action", "EC2", "AutoScalingGroup"),
    "autoscaling:EC2_INSTANCE_TERMINATING": (
        "EC2 Instance-terminate Lifecycle Action",
        "AutoScalingGroup",
        "EC2",
    ),
}


def state_change(world: World, machine: Machine, state: str) -> None:
    _send_ec2(
        world,
        "EC2 Instance State-change Notification",
        {"instance-id": machine.id, "state": state},
        f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{machine.id}",
    )
    world.tell(f"instance.{state}", machine.id, machine.group)


def interruption_warning(world: World, machine: Machine) -> None:
    _send_ec2(
        world,
        "EC2 Spot Instance Interruption Warning",
        {"instance-id": machine.id, "instance-action": "terminate"},
        f"arn:aws:ec2:{machine.instance.availability_zone}:instance/{machine.id}",
    )


def rebalance_recommendation(world: World, machine: Machine) -> None:
    _send_ec2(
        world,
        "EC2 Instance Rebalance Recommendation",
        {"instance-id": machine.id},
        f"arn:aws:ec2:{machine.instance.availability_zone}:instance/{machine.id}",
    )


def lifecycle_action(world: World, group: Group, member: Member, wait: HookWait) -> None:
    """The launch or terminate action of one hook."""
    kind, *usual = _DIRECTIONS[str(wait.hook.lifecycle_transition)]
    origin, destination = member.route or usual
    detail = {
        "LifecycleActionToken": wait.token,
        "AutoScalingGroupName": group.name,
        "LifecycleHookName": wait.hook.name,
        "EC2InstanceId": member.machine.id,
        "LifecycleTransition": wait.hook.lifecycle_transition,
        "Origin": origin,
        "Destination": destination,
    }
    metadata = getattr(wait.hook, "notification_metadata", None)
    if metadata is not None:
        detail["NotificationMetadata"] = metadata
    _send(world, "aws.autoscaling", kind, detail, [group.moto.arn])


def activity_ended(
    world: World, group: Group, activity: Activity, kind: str, instance_id: str | None
) -> None:
    """`EC2 Instance Launch Successful` and its like."""
    detail: dict[str, Any] = {
        "StatusCode": activity.status_code if activity.status_code == "Failed" else "InProgress",
        "Description": activity.description,
        "AutoScalingGroupName": group.name,
        "ActivityId": activity.activity_id,
        "Details": json.loads(activity.details),
        "RequestId": activity.activity_id,
        "StatusMessage": activity.status_message or "",
        "EndTime": f"{activity.end_time.isoformat(timespec='milliseconds')}Z",
        "StartTime": f"{activity.start_time.isoformat(timespec='milliseconds')}Z",
        "Cause": activity.cause,
    }
    resources = [group.moto.arn]
    if instance_id is not None:
        detail["EC2InstanceId"] = instance_id
        resources.append(f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance_id}")
    _send(world, "aws.autoscaling", kind, detail, resources)


def install(patches: Patches) -> None:
    """Whole envelopes; nothing by a disabled rule or a schedule, nor to a function, which nobody runs."""
    patches.set(EventTemplateParser, "DEFAULT_EVENT_INPUT_TEMPLATE", _ENVELOPE)

    def make(original: Any) -> Any:
        def send_to_targets(self: Rule, *args: Any, **kwargs: Any) -> None:
            if self.state != "ENABLED" or self.scheduled_expression:
                return
            everyone = self.targets
            self.targets = [target for target in everyone if ":lambda:" not in target["Arn"]]
            try:
                original(self, *args, **kwargs)
            finally:
                self.targets = everyone

        return send_to_targets

    patches.wrap(Rule, "send_to_targets", make)


def _send_ec2(world: World, kind: str, detail: dict[str, Any], resource: str) -> None:
    _send(world, "aws.ec2", kind, detail, [resource])


def _send(world: World, source: str, kind: str, detail: dict[str, Any], resources: list[str]) -> None:
    entry = {
        "Source": source,
        "DetailType": kind,
        "Detail": json.dumps(detail),
        "Resources": resources,
        "Time": world.clock(),
    }
    world.outbox.add(lambda: _put(world, entry))


def _put(world: World, entry: dict[str, Any]) -> None:
    with world.lock:  # rules must not change while they are gone through
        events_backends[ACCOUNT][REGION].put_events([entry])
