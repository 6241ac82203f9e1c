"""Warm pools: instances that have booted once and wait beside their group, stopped or running.

Auto Scaling guide, "Warm pools" and "Use lifecycle hooks with a warm pool": an instance that enters waits in
Warmed:Pending:Wait for launch hooks, and is stopped as soon as they are done; when the group grows it is
started, and waits for the hooks once more in Pending:Wait, before it is in service. What waits does not count
towards the desired capacity. The pool's size is what the group may still grow by, or up to the prepared
capacity, and at least the pool's minimum.
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling.models import AutoScalingBackend
from moto.autoscaling.models import InstanceState as MotoMember
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from fleet.rehearsal.cloud import activities, groups, hooks, instances, members, pool
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group, Member
from fleet.rehearsal.cloud.template import version_of
from fleet.rehearsal.cloud.world import World

_ENTERING, _LEAVING = ("EC2", "WarmPool"), ("WarmPool", "AutoScalingGroup")


def advance(world: World, group: Group) -> None:
    """Bring the pool's instances on, and end those that are too many, gone, or of an older template."""
    launched = version_of(group.launching)
    version = str(launched.number) if launched else None
    for member in list(group.warm.values()):
        _advance(world, group, member)
        outdated = group.refresh() is None and member.template_version != version
        if outdated or member.machine.terminated_at is not None:
            _end(world, group, member)
    for member in list(group.warm.values()):
        if pool.units(group) - member.weight >= pool.wanted(group):
            _end(world, group, member)


def enter(world: World, group: Group, member: Member) -> None:
    """A new instance boots for the pool."""
    member.route = _ENTERING
    group.warm[member.machine.id] = member
    member.machine.group = group.name
    member.machine.target_lifecycle_state = f"Warmed:{pool.state(group)}"
    members.set_phase(world, group, member, "Warmed:Pending")


def take(world: World, group: Group) -> Member | None:
    """Whoever has waited longest leaves the pool, on its way into service; None where nobody is ready."""
    ready = [m for m in group.warm.values() if m.phase in ("Warmed:Stopped", "Warmed:Running")]
    if not ready:
        return None
    member = min(ready, key=lambda m: m.machine.launched_at)
    del group.warm[member.machine.id]
    member.route, member.leaving, member.in_service_at = _LEAVING, None, None
    before = sum(1 for other in group.members.values() if not other.is_terminating)
    member.activity = activities.launching(world, group, member.machine, before)
    if member.machine.stopped_at is not None:
        instances.start(world, member.machine)
    return member


def _advance(world: World, group: Group, member: Member) -> None:
    if member.phase == "Warmed:Pending":
        if member.machine.running_at is None:
            return
        waits = hooks.begin(world, group, member, hooks.LAUNCHING)
        members.set_phase(world, group, member, "Warmed:Pending:Wait" if waits else "Warmed:Pending:Proceed")
    if member.phase == "Warmed:Pending:Wait":
        result = hooks.result(world, member)
        if result == "ABANDON":
            _end(world, group, member)
        if result != "CONTINUE":
            return
        members.set_phase(world, group, member, "Warmed:Pending:Proceed")
    if member.phase == "Warmed:Pending:Proceed":
        _wait(world, group, member)


def _wait(world: World, group: Group, member: Member) -> None:
    if pool.state(group) == "Stopped" and member.machine.stopped_at is None:
        instances.stop(world, member.machine)
        return
    members.set_phase(world, group, member, f"Warmed:{pool.state(group)}")
    activities.succeeded(world, group, member, members.LAUNCHED)


def _end(world: World, group: Group, member: Member) -> None:
    group.warm.pop(member.machine.id, None)
    if member.machine.terminated_at is None:
        world.ec2.terminate_instances([member.machine.id])
    members.set_phase(world, group, member, "Warmed:Terminated")
    member.machine.lifecycle_state = "Warmed:Terminated"


def install(world: World, patches: Patches) -> None:
    """Pools with instances in them."""

    def describe_warm_pool(self: AutoScalingResponse) -> ActionResult:
        group = groups.find(world, self._get_param("AutoScalingGroupName"))
        shown = [member.state for member in group.warm.values()]
        return ActionResult({"WarmPoolConfiguration": group.moto.warm_pool, "Instances": shown})

    def make_describe(original: Any) -> Any:
        def describe_auto_scaling_instances(
            self: AutoScalingBackend, instance_ids: list[str]
        ) -> list[MotoMember]:
            waiting = [member.state for group in world.groups.values() for member in group.warm.values()]
            asked = [state for state in waiting if not instance_ids or state.instance_id in instance_ids]
            return [*original(self, instance_ids), *asked]

        return describe_auto_scaling_instances

    patches.set(AutoScalingResponse, "describe_warm_pool", describe_warm_pool)
    patches.wrap(AutoScalingBackend, "describe_auto_scaling_instances", make_describe)
