"""One look at a group: its members move on, the sick are replaced, its size becomes what it should be."""

from __future__ import annotations

from fleet.rehearsal.cloud import (
    activities,
    capacity,
    members,
    policies,
    refresh,
    schedules,
    splitting,
    warmpool,
)
from fleet.rehearsal.cloud.detach import in_grace
from fleet.rehearsal.cloud.launching import fill_pool, launch, weigh
from fleet.rehearsal.cloud.records import Group, Member
from fleet.rehearsal.cloud.targets import in_use
from fleet.rehearsal.cloud.template import purchase_of
from fleet.rehearsal.cloud.world import World

# EC2's status checks need about two minutes to see that an instance is unreachable.
STATUS_CHECK_SECONDS = 120.0
_LEAVING_CAUSES = {
    "rebalance": activities.REBALANCE,
    "refresh": activities.REFRESH,
    "split": activities.SPLIT,
}


def reconcile(world: World, group: Group) -> None:
    weigh(group)
    for member in list(group.members.values()):
        members.advance(world, group, member)
    if not _suspended(group, "HealthCheck"):
        _check_health(world, group)
    if not _suspended(group, "ReplaceUnhealthy"):
        _end_unhealthy(world, group)
    if group.moto.capacity_rebalance:
        _mark_at_risk(group)
    if not _suspended(group, "InstanceRefresh"):
        refresh.step(world, group, facts(world, group))
    if not _suspended(group, "ScheduledActions"):
        schedules.run(world, group)
    if not _suspended(group, "AlarmNotification"):
        policies.track(world, group)
    _resize(world, group)
    # After it: what the group has taken from the pool is not too many there.
    warmpool.advance(world, group)
    if not _suspended(group, "Launch"):
        fill_pool(world, group)


def facts(world: World, group: Group) -> list[capacity.Fact]:
    """The members that count, as decisions see them."""
    return [
        _fact(world, group, member)
        for member in group.members.values()
        if member.in_service or member.is_pending
    ]


def _fact(world: World, group: Group, member: Member) -> capacity.Fact:
    return capacity.Fact(
        instance_id=member.machine.id,
        option=member.machine.option,
        zone=member.machine.pool.availability_zone,
        launched_at=member.machine.launched_at,
        template_version=int(member.template_version or 0),
        settled=_settled(world, group, member),
        leaving=member.leaving is not None,
        protected=bool(member.state.protected_from_scale_in),
        weight=member.weight,
    )


def _settled(world: World, group: Group, member: Member) -> bool:
    if not member.in_service or member.in_service_at is None or not _is_healthy(world, group, member):
        return False
    return world.clock() >= member.in_service_at + world.scaled(refresh.warmup_seconds(group))


def _is_healthy(world: World, group: Group, member: Member) -> bool:
    if member.state.health_status != "Healthy":
        return False
    return not _uses_elb(group) or all(
        state == "healthy" for state in _target_states(world, group, member) if state != "unused"
    )


def _uses_elb(group: Group) -> bool:
    return "ELB" in str(group.moto.health_check_type)


def _target_states(world: World, group: Group, member: Member) -> list[str]:
    """The member's state in each target group in use; `initial` where it is not registered yet."""
    states: list[str] = []
    for arn in group.moto.target_group_arns:
        if arn in world.elbv2.target_groups and in_use(world, arn):
            record = world.targets.get(arn, {}).get(member.machine.id)
            states.append(record.state if record else "initial")
    return states


def _check_health(world: World, group: Group) -> None:
    for member in group.members.values():
        cause = None if member.is_terminating else _sickness(world, group, member)
        if cause is not None:
            member.state.health_status, member.unhealthy_cause = "Unhealthy", cause


def _sickness(world: World, group: Group, member: Member) -> str | None:
    machine = member.machine
    if machine.terminated_at is not None or machine.instance.state == "stopped":
        return activities.EC2_GONE
    if machine.killed_at is not None and world.clock() >= machine.killed_at + world.scaled(
        STATUS_CHECK_SECONDS
    ):
        return activities.EC2_FAILURE
    if not _uses_elb(group) or not member.in_service or in_grace(world, group, member):
        return None
    return activities.ELB_FAILURE if "unhealthy" in _target_states(world, group, member) else None


def _end_unhealthy(world: World, group: Group) -> None:
    for member in list(group.members.values()):
        if member.state.health_status == "Unhealthy" and not member.is_terminating:
            members.begin_terminate(world, group, member, member.unhealthy_cause or activities.USER_HEALTH)


def _mark_at_risk(group: Group) -> None:
    for member in group.members.values():
        if member.machine.rebalance_at is not None and member.in_service and member.leaving is None:
            member.leaving = "rebalance"


def _resize(world: World, group: Group) -> None:
    splitting.let_stay(group, purchase_of(group.moto).split)
    wanted = capacity.plan(
        facts(world, group),
        group.desired,
        purchase_of(group.launching).split,
        group.moto.termination_policies,
        capacity.ceiling(int(group.moto.max_size or 0)),
    )
    for instance_id in wanted.leave:
        group.members[instance_id].leaving = "split"
    if not _suspended(group, "Terminate"):
        for instance_id in wanted.terminate:
            _end(world, group, group.members[instance_id])
    if not _suspended(group, "Launch"):
        bought = launch(world, group, "on-demand", wanted.launch_on_demand)
        # A node may be more units than were missing: so many less are.
        launch(world, group, "spot", wanted.launch_spot - max(0, bought - wanted.launch_on_demand))


def _end(world: World, group: Group, member: Member) -> None:
    before = sum(1 for other in group.members.values() if not other.is_terminating)
    cause = (
        _LEAVING_CAUSES[member.leaving]
        if member.leaving
        else activities.shrinking(world, member.machine.id, before, before - 1)
    )
    member.scaled_in = member.leaving is None
    members.begin_terminate(world, group, member, cause)


def _suspended(group: Group, process: str) -> bool:
    return any(found["ProcessName"] == process for found in group.moto.suspended_processes)
