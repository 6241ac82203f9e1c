"""Lifecycle hooks that fire, wait, are renewed, answered, or run out."""

from __future__ import annotations

import uuid
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import LifecycleHook
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from fleet.rehearsal.cloud import events
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group, HookWait, Member
from fleet.rehearsal.cloud.world import World

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_HEARTBEAT_BOUNDS = (30, 7200)  # seconds
_MOST_HEARTBEATS = 100
_MOST_SECONDS = 172_800.0


def put(world: World, group_name: str, wanted: dict[str, Any]) -> LifecycleHook:
    """Create or replace a hook from the fields that PutLifecycleHook and CreateAutoScalingGroup share."""
    if wanted["LifecycleTransition"] not in (LAUNCHING, TERMINATING):
        raise ValidationError(f"Lifecycle transition {wanted['LifecycleTransition']} is not valid.")
    timeout = int(wanted.get("HeartbeatTimeout") or 3600)
    low, high = _HEARTBEAT_BOUNDS
    if not low <= timeout <= high:
        raise ValidationError(f"The heartbeat timeout must be between {low} and {high} seconds.")
    result = wanted.get("DefaultResult") or "ABANDON"
    if result not in ("CONTINUE", "ABANDON"):
        raise ValidationError(f"Default result {result} is not one of CONTINUE, ABANDON.")
    hook = world.autoscaling.create_lifecycle_hook(
        wanted["LifecycleHookName"], group_name, wanted["LifecycleTransition"], timeout, result
    )
    hook.notification_metadata = wanted.get("NotificationMetadata")  # type: ignore[attr-defined]
    hook.notification_target_arn = wanted.get("NotificationTargetARN")  # type: ignore[assignment]
    hook.role_arn = wanted.get("RoleARN")  # type: ignore[assignment]
    hook.global_timeout = int(min(timeout * _MOST_HEARTBEATS, _MOST_SECONDS))
    return hook


def begin(world: World, group: Group, member: Member, transition: str) -> bool:
    """Fire the group's hooks of a transition; whether there is any to wait for."""
    now = world.clock()
    member.waits.clear()
    for hook in world.autoscaling.describe_lifecycle_hooks(group.name):
        if hook.lifecycle_transition != transition:
            continue
        timeout = world.scaled(float(hook.heartbeat_timeout))
        last = now + min(timeout * _MOST_HEARTBEATS, world.scaled(_MOST_SECONDS))
        wait = HookWait(hook, str(uuid.uuid4()), now + timeout, last)
        member.waits[str(hook.name)] = wait
        events.lifecycle_action(world, group, member, wait)
    return bool(member.waits)


def result(world: World, member: Member) -> str | None:
    """What the hooks came to: ABANDON as soon as one does, CONTINUE when all do; None until then."""
    for wait in member.waits.values():
        if wait.answer is None and world.clock() >= wait.deadline:
            wait.answer = str(wait.hook.default_result)
    answers = [wait.answer for wait in member.waits.values()]
    if "ABANDON" in answers:
        return "ABANDON"
    return None if None in answers else "CONTINUE"


def find(
    world: World, group_name: str, hook_name: str, token: str | None, instance_id: str | None
) -> tuple[Member, HookWait]:
    """The wait that a token or an instance id names; raises AWS's ValidationError."""
    group = world.groups.get(group_name)
    for member in (*group.members.values(), *group.warm.values()) if group else ():
        for wait in member.waits.values():
            named = wait.token == token if token else member.machine.id == instance_id
            if named and wait.hook.name == hook_name and wait.answer is None:
                return member, wait
    if token:
        raise ValidationError(f"No active Lifecycle Action found with token {token}")
    raise ValidationError(f"No active Lifecycle Action found with instance ID {instance_id}")


def renew(world: World, wait: HookWait) -> None:
    renewed = world.clock() + world.scaled(float(wait.hook.heartbeat_timeout))
    wait.deadline = min(renewed, wait.last_deadline)


def install(world: World, patches: Patches) -> None:
    """PutLifecycleHook in full, CompleteLifecycleAction and RecordLifecycleActionHeartbeat."""

    def put_lifecycle_hook(self: AutoScalingResponse) -> ActionResult:
        wanted = self._get_params()
        if wanted["AutoScalingGroupName"] not in world.groups:
            raise ValidationError("AutoScalingGroup name not found - null")
        put(world, wanted["AutoScalingGroupName"], dict(wanted))
        return EmptyResult()

    def complete_lifecycle_action(self: AutoScalingResponse) -> ActionResult:
        answered = self._get_param("LifecycleActionResult")
        if answered not in ("CONTINUE", "ABANDON"):
            raise ValidationError("The lifecycle action result must be one of CONTINUE, ABANDON.")
        _, wait = _named(self)
        wait.answer = answered
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self: AutoScalingResponse) -> ActionResult:
        renew(world, _named(self)[1])
        return EmptyResult()

    def _named(self: AutoScalingResponse) -> tuple[Member, HookWait]:
        return find(
            world,
            self._get_param("AutoScalingGroupName"),
            self._get_param("LifecycleHookName"),
            self._get_param("LifecycleActionToken"),
            self._get_param("InstanceId"),
        )

    for action in (put_lifecycle_hook, complete_lifecycle_action, record_lifecycle_action_heartbeat):
        patches.set(AutoScalingResponse, action.__name__, action)
