"""Members that leave a group or its service on request: detach, attach, standby, terminate."""

from __future__ import annotations

from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import ASG_NAME_TAG
from moto.autoscaling.models import InstanceState as MotoMember
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from fleet.rehearsal.cloud import activities, groups, members, targets
from fleet.rehearsal.cloud.launching import join
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Activity, Group, Member
from fleet.rehearsal.cloud.world import World


def detach(world: World, group: Group, instance_ids: list[str], decrement: bool) -> list[Activity]:
    """Let instances go as they are: off the target groups, off the group. Without `decrement` the group
    launches their replacements at once."""
    found = [_member(group, instance_id, ("InService", "Standby")) for instance_id in instance_ids]
    if decrement:
        groups.require_room_below(group, len(found))
    for member in found:
        _let_go(world, group, member)
    if decrement:
        groups.set_desired(world, group, group.desired - len(found), "a user request to detach")
    return [
        activities.moved(world, group, member.machine, "Detaching EC2 instance", "detached")
        for member in found
    ]


def _let_go(world: World, group: Group, member: Member) -> None:
    machine = member.machine
    targets.deregister_everywhere(world, machine.id, list(group.moto.target_group_arns))
    members.set_phase(world, group, member, "Detached")
    machine.lifecycle_state = machine.target_lifecycle_state = "Detached"
    members.leave(group, member)
    world.ec2.delete_tags([machine.id], {ASG_NAME_TAG: group.name})


def attach(world: World, group: Group, instance_ids: list[str]) -> None:
    """Make running instances members; each adds one to the desired capacity."""
    if group.desired + len(instance_ids) > int(group.moto.max_size or 0):
        raise ValidationError(
            f"AutoScalingGroup {group.name} has min-size={group.moto.min_size}, "
            f"max-size={group.moto.max_size}, and desired-size={group.desired}. To attach "
            f"{len(instance_ids)} more instance, please update the AutoScalingGroup sizes appropriately."
        )
    for instance_id in instance_ids:
        machine = world.machines.get(instance_id)
        if machine is None or machine.running_at is None or machine.terminated_at is not None:
            raise ValidationError(f"Invalid Instance ID(s): [{instance_id}] specified")
        machine.instance.autoscaling_group = group.moto  # type: ignore[attr-defined]
        world.ec2.create_tags([instance_id], {ASG_NAME_TAG: group.name})
        state = MotoMember(machine.instance, "Pending", autoscaling_group=group.moto)
        join(world, group, Member(state, machine, None, None))
    groups.set_desired(world, group, group.desired + len(instance_ids), "a user request to attach")


def enter_standby(world: World, group: Group, instance_ids: list[str], decrement: bool) -> list[Activity]:
    found = [_member(group, instance_id, ("InService",)) for instance_id in instance_ids]
    if decrement:
        groups.require_room_below(group, len(found))
    for member in found:
        targets.deregister_everywhere(world, member.machine.id, list(group.moto.target_group_arns))
        member.machine.target_lifecycle_state = "Standby"
        members.set_phase(world, group, member, "Standby")
    if decrement:
        groups.set_desired(world, group, group.desired - len(found), "a user request to enter standby")
    return [
        activities.moved(world, group, m.machine, "Moving EC2 instance to Standby", "moved to standby")
        for m in found
    ]


def exit_standby(world: World, group: Group, instance_ids: list[str]) -> list[Activity]:
    found = [_member(group, instance_id, ("Standby",)) for instance_id in instance_ids]
    if group.desired + len(found) > int(group.moto.max_size or 0):
        raise ValidationError(f"Exiting standby would exceed the maximum size of {group.name}.")
    for member in found:
        member.machine.target_lifecycle_state = "InService"
        members.set_phase(world, group, member, "Pending")
    groups.set_desired(world, group, group.desired + len(found), "a user request to exit standby")
    return [
        activities.moved(
            world, group, m.machine, "Moving EC2 instance out of Standby", "moved out of standby"
        )
        for m in found
    ]


def terminate(world: World, instance_id: str, decrement: bool) -> Activity:
    """TerminateInstanceInAutoScalingGroup."""
    for group in world.groups.values():
        member = group.members.get(instance_id)
        if member is None:
            continue
        if decrement and not member.is_terminating:
            groups.require_room_below(group, 1)
            groups.set_desired(world, group, group.desired - 1, "a user request to terminate an instance")
        members.begin_terminate(world, group, member, activities.user_request(instance_id))
        assert member.activity is not None
        return member.activity
    raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")


def set_health(world: World, instance_id: str, status: str, respect_grace: bool) -> None:
    """SetInstanceHealth: an unhealthy member is replaced at the next look."""
    if status not in ("Healthy", "Unhealthy"):
        raise ValidationError("Valid instance health states are: [Healthy, Unhealthy].")
    for group in world.groups.values():
        member = group.members.get(instance_id)
        if member is None:
            continue
        if status == "Healthy" or not (respect_grace and in_grace(world, group, member)):
            member.state.health_status = status
            member.unhealthy_cause = activities.USER_HEALTH if status == "Unhealthy" else None
        return
    raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")


def in_grace(world: World, group: Group, member: Member) -> bool:
    """Whether load balancer and user health checks do not count yet."""
    grace = world.scaled(float(group.moto.health_check_grace_period or 0))
    return member.in_service_at is None or world.clock() < member.in_service_at + grace


def _member(group: Group, instance_id: str, phases: tuple[str, ...]) -> Member:
    member = group.members.get(instance_id)
    if member is None:
        raise ValidationError(f"The instance {instance_id} is not part of Auto Scaling group {group.name}.")
    if member.phase not in phases:
        raise ValidationError(f"The instance {instance_id} is not in {' or '.join(phases)}.")
    return member


def install(world: World, patches: Patches) -> None:
    def named(self: AutoScalingResponse) -> tuple[Group, list[str]]:
        return (
            groups.find(world, self._get_param("AutoScalingGroupName")),
            self._get_param("InstanceIds", []),
        )

    def decrements(self: AutoScalingResponse) -> bool:
        return bool(self._get_bool_param("ShouldDecrementDesiredCapacity", False))

    def detach_instances(self: AutoScalingResponse) -> ActionResult:
        return ActionResult({"Activities": detach(world, *named(self), decrements(self))})

    def attach_instances(self: AutoScalingResponse) -> ActionResult:
        attach(world, *named(self))
        return EmptyResult()

    def enter_standby_action(self: AutoScalingResponse) -> ActionResult:
        return ActionResult({"Activities": enter_standby(world, *named(self), decrements(self))})

    def exit_standby_action(self: AutoScalingResponse) -> ActionResult:
        return ActionResult({"Activities": exit_standby(world, *named(self))})

    def terminate_action(self: AutoScalingResponse) -> ActionResult:
        activity = terminate(world, self._get_param("InstanceId"), decrements(self))
        return ActionResult({"Activity": activity})

    def set_instance_health(self: AutoScalingResponse) -> ActionResult:
        set_health(
            world,
            self._get_param("InstanceId"),
            self._get_param("HealthStatus"),
            bool(self._get_bool_param("ShouldRespectGracePeriod", True)),
        )
        return EmptyResult()

    actions: dict[str, Any] = {
        "detach_instances": detach_instances,
        "attach_instances": attach_instances,
        "enter_standby": enter_standby_action,
        "exit_standby": exit_standby_action,
        "terminate_instance_in_auto_scaling_group": terminate_action,
        "set_instance_health": set_instance_health,
    }
    for name, action in actions.items():
        patches.set(AutoScalingResponse, name, action)
