"""Views of the emulated cloud's state, as plain values."""

from __future__ import annotations

from fleet.rehearsal.cloud import imds
from fleet.rehearsal.cloud.records import Group, Machine, TargetRecord
from fleet.rehearsal.cloud.views import GroupView, InstanceState, InstanceView, TargetState
from fleet.rehearsal.cloud.world import World

TIER_TAG = "goldenfleet:tier"


def instance_view(world: World, machine: Machine) -> InstanceView:
    instance = machine.instance
    tags: dict[str, str] = dict(world.ec2.tags.get(machine.id, {}))
    return InstanceView(
        instance_id=machine.id,
        tier=tags.get(TIER_TAG),
        address=machine.lease.address,
        availability_zone=machine.pool.availability_zone,
        instance_type=str(instance.instance_type),
        purchase_option=machine.option,
        state=_state(machine),
        lifecycle_state=_lifecycle_state(world, machine),
        target_state=_target_state(world, machine),
        launched_at=machine.launched_at,
        running_at=machine.running_at,
        terminated_at=machine.terminated_at,
        image_id=str(instance.image_id),
        user_data=imds.user_data(machine),
        group=machine.group,
        subnet_id=str(instance.subnet_id),
        tags=tags,
        metadata_endpoint=imds.endpoint(machine),
        hourly_price=machine.hourly_price,
        noticed_at=machine.noticed_at,
        taken_at=machine.taken_at,
    )


def group_view(group: Group) -> GroupView:
    members = [member for member in group.members.values() if not member.is_terminating]
    tags = {tag["Key"]: tag["Value"] for tag in group.moto.tags}
    return GroupView(
        name=group.name,
        tier=tags.get(TIER_TAG),
        minimum=int(group.moto.min_size or 0),
        maximum=int(group.moto.max_size or 0),
        desired=group.desired,
        in_service=sum(1 for member in members if member.in_service),
        on_demand=sum(1 for member in members if member.machine.option == "on-demand"),
        spot=sum(1 for member in members if member.machine.option == "spot"),
        instance_ids=tuple(group.members),
        target_group_arns=tuple(group.moto.target_group_arns),
    )


def _state(machine: Machine) -> InstanceState:
    if machine.terminated_at is not None:
        return "terminated"
    if machine.stopped_at is not None:
        return "stopped"
    return "pending" if machine.running_at is None else "running"


def _lifecycle_state(world: World, machine: Machine) -> str | None:
    group = world.groups.get(machine.group) if machine.group else None
    member = (group.members.get(machine.id) or group.warm.get(machine.id)) if group else None
    return member.phase if member else machine.lifecycle_state


_WORST_FIRST: tuple[TargetState, ...] = ("draining", "unhealthy", "initial", "unused", "healthy")


def _target_state(world: World, machine: Machine) -> TargetState | None:
    """The target's state; of several, the one furthest from serving."""
    records: list[TargetRecord] = [
        record for group in world.targets.values() if (record := group.get(machine.id)) is not None
    ]
    return min((record.state for record in records), key=_WORST_FIRST.index, default=None)
