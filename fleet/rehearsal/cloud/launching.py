"""Launching members: which pool, and what when there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG
from moto.autoscaling.models import InstanceState as MotoMember
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance

from fleet.rehearsal.cloud import activities, pool, shortage, warmpool
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group, Machine, Member
from fleet.rehearsal.cloud.template import (
    Purchase,
    profile_of,
    purchase_of,
    run_arguments,
    user_data_of,
    version_of,
)
from fleet.rehearsal.cloud.views import PurchaseOption
from fleet.rehearsal.cloud.world import World
from fleet.rehearsal.market import Offer, Pool, choose

RETRY_SECONDS = 60.0  # AWS tries again about once a minute
_POOL = "warm pool"


def launch(world: World, group: Group, option: PurchaseOption, units: int) -> int:
    """Launch instances until so many units of capacity are there; how many they came to. After a failure wait
    before the next try, and never buy the other option.
    """
    launched = 0
    if world.clock() < group.retry_at.get(option, 0.0):
        return 0
    while launched < units:
        weight = _launch_one(world, group, option)
        if not weight:
            group.retry_at[option] = world.clock() + world.scaled(RETRY_SECONDS)
            break
        launched += weight
    return launched


def _launch_one(world: World, group: Group, option: PurchaseOption) -> int:
    """The units that it is; 0 where there was none to be had."""
    if option == "on-demand" and (waiting := warmpool.take(world, group)) is not None:
        waiting.state.lifecycle_state = "Pending"
        join(world, group, waiting)
        return waiting.weight
    machine = _buy(world, group, option)
    return 0 if machine is None else _enlist(world, group, machine)


def fill_pool(world: World, group: Group) -> None:
    """Launch what the warm pool lacks; after a failure wait before the next try."""
    while pool.missing(group) and world.clock() >= group.retry_at.get(_POOL, 0.0):
        machine = _buy(world, group, "on-demand")
        if machine is None:
            group.retry_at[_POOL] = world.clock() + world.scaled(RETRY_SECONDS)
            return
        warmpool.enter(world, group, _member(group, machine))
        weigh(group)


def _buy(world: World, group: Group, option: PurchaseOption) -> Machine | None:
    before = sum(1 for member in group.members.values() if not member.is_terminating)
    purchase = purchase_of(group.launching)
    if (refusal := shortage.refusal_of(world, group, option)) is not None:
        activities.launch_failed(world, group, refusal, before)
        return None
    found = _pick(world, group, purchase, option)
    if found is None:
        reason = shortage.UNFULFILLABLE if option == "spot" else shortage.NO_ON_DEMAND
        activities.launch_failed(world, group, reason, before)
        return None
    place, subnet = found
    try:
        instance = _run(world, group, option, place.instance_type, subnet)
    except EC2ClientError as error:
        activities.launch_failed(world, group, str(error.message), before)
        return None
    return world.machines[str(instance.id)]


def weigh(group: Group) -> None:
    """Give members the weights that their types have now; one whose type is gone keeps its last."""
    weights = purchase_of(group.launching).weights
    for member in (*group.members.values(), *group.warm.values()):
        kind = str(member.machine.instance.instance_type)
        member.weight = weights.get(kind, member.weight) if weights else 1
        # What DescribeAutoScalingGroups shows of it.
        member.state.weighted_capacity = str(member.weight) if weights else None  # type: ignore[attr-defined]


def _pick(world: World, group: Group, purchase: Purchase, option: PurchaseOption) -> tuple[Pool, str] | None:
    """A pool and its subnet: in the zones with fewest members first, by the option's strategy."""
    subnets = {
        str(subnet.availability_zone): str(subnet.id)
        for name in (group.moto.vpc_zone_identifier or "").split(",")
        if name
        for subnet in [world.ec2.get_subnet(name.strip())]
    }
    everyone = (*group.members.values(), *group.warm.values())
    used = Counter(m.machine.pool.availability_zone for m in everyone if not m.is_terminating)
    strategy = purchase.spot_strategy if option == "spot" else purchase.on_demand_strategy
    for level in sorted({used[zone] for zone in subnets}):
        zones = [zone for zone in subnets if used[zone] == level]
        pools = [Pool(kind, zone) for kind in purchase.types(option) for zone in zones]
        offer = choose([_per_unit(offer, purchase) for offer in world.market.offers(pools, option)], strategy)
        if offer is not None:
            return offer.pool, subnets[offer.pool.availability_zone]
    return None


def _per_unit(offer: Offer, purchase: Purchase) -> Offer:
    """Strategies compare what a unit of capacity costs."""
    return replace(offer, price=offer.price / purchase.weights.get(offer.pool.instance_type, 1))


def _run(world: World, group: Group, option: PurchaseOption, instance_type: str, subnet: str) -> Instance:
    moto = group.launching
    spot: dict[str, Any] = {"instance_market_options": {"MarketType": "spot"}} if option == "spot" else {}
    reservation = world.ec2.run_instances(
        moto.image_id,
        1,
        user_data_of(moto),
        list(moto.security_groups or []),
        instance_type=instance_type,
        is_instance_type_default=False,
        subnet_id=subnet,
        tags={"instance": {**moto.get_propagated_tags(), **moto.instance_tags, ASG_NAME_TAG: group.name}},
        lifecycle=option if option == "spot" else None,
        **run_arguments(moto),
        **spot,
    )
    instance = reservation.instances[0]
    profile = profile_of(moto)
    if profile:
        world.ec2.associate_iam_instance_profile(
            instance.id,
            iam_instance_profile_name=profile.get("Name"),
            iam_instance_profile_arn=profile.get("Arn"),
        )
    return instance


def _enlist(world: World, group: Group, machine: Machine) -> int:
    before = sum(1 for member in group.members.values() if not member.is_terminating)
    member = _member(group, machine)
    member.activity = activities.launching(world, group, machine, before)
    join(world, group, member)
    weigh(group)
    return member.weight


def _member(group: Group, machine: Machine) -> Member:
    version = version_of(group.launching)
    machine.instance.autoscaling_group = group.moto  # type: ignore[attr-defined]
    state = MotoMember(
        machine.instance, "Pending", protected_from_scale_in=group.moto.new_instances_protected_from_scale_in
    )
    return Member(state, machine, str(version.number) if version else None, None)


def join(world: World, group: Group, member: Member) -> None:
    """Make an instance a member, on its way into service."""
    machine = member.machine
    machine.group, machine.lifecycle_state = group.name, None
    machine.target_lifecycle_state = "InService"
    member.state.launched_version = member.template_version  # type: ignore[attr-defined]
    group.members[machine.id] = member
    group.moto.instance_states.append(member.state)
    world.tell("lifecycle.Pending", machine.id, group.name)


def install(patches: Patches) -> None:
    """Show the template version that a member was launched from; moto shows the template's default."""

    def launch_template(self: MotoMember) -> dict[str, Any] | None:
        version = getattr(self, "launched_version", None)
        template = self.auto_scaling_group.ec2_launch_template
        if version is None or template is None:
            return None
        return {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Version": version,
        }

    patches.set(MotoMember, "launch_template", property(launch_template))
