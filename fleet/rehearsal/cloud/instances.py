"""Instances that boot, run, are noticed, vanish and end: what moto's EC2 does not play."""

from __future__ import annotations

import math
import secrets
from typing import Any

from moto.ec2.exceptions import EC2ClientError, InvalidAMIIdError
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance, StateReason
from moto.ssm.models import ssm_backends

from fleet.cost.errors import PriceUnknown
from fleet.rehearsal.cloud import events
from fleet.rehearsal.cloud.imds import MetadataServers
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Machine
from fleet.rehearsal.cloud.show import instance_view
from fleet.rehearsal.cloud.views import PurchaseOption
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World
from fleet.rehearsal.market import Pool, on_demand_price

NOTICE_SECONDS = 120.0  # AWS's two minutes
BOOT_SECONDS = 5.0  # from RunInstances to `running`


def resolve_image(image_id: str) -> str:
    """The image id that `resolve:ssm:<parameter>` names, or the id itself."""
    if not image_id.startswith("resolve:ssm:"):
        return image_id
    name = image_id.removeprefix("resolve:ssm:")
    parameter = ssm_backends[ACCOUNT][REGION].get_parameter(name)
    if parameter is None:
        raise EC2ClientError("InvalidParameterValue", f"The parameter {name} does not exist.")
    return str(parameter.value)


def require_image(world: World, image_id: str) -> None:
    if image_id not in world.ec2.amis:
        raise InvalidAMIIdError(image_id)


def adopt(world: World, instance: Instance) -> Machine:
    """Give an instance that moto made its address and its life; raises EC2ClientError as AWS would."""
    now = world.clock()
    pool = Pool(instance.instance_type, str(instance.availability_zone))
    option: PurchaseOption = "spot" if instance.lifecycle == "spot" else "on-demand"
    if not world.market.capacity(pool, option):
        raise EC2ClientError("InsufficientInstanceCapacity", _no_capacity(pool))
    lease = world.addresses.lease(str(world.ec2.get_subnet(str(instance.subnet_id)).cidr_block))
    if lease is None:
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{instance.subnet_id}' to satisfy the "
            "requested number of instances.",
        )
    world.market.take(pool, option)
    _dress(instance, lease.address)
    machine = Machine(
        instance,
        lease,
        pool,
        option,
        world.market.price(pool, option),
        launched_at=now,
        runs_at=now + world.scaled(BOOT_SECONDS),
    )
    world.machines[machine.id] = machine
    events.state_change(world, machine, "pending")
    return machine


def _dress(instance: Instance, address: str) -> None:
    """What moto leaves out of a fresh instance."""
    instance._state.name, instance._state.code = "pending", 0
    nic = instance.nics[0]
    nic.private_ip_address = address
    nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
    nic.delete_on_termination = True
    if instance.lifecycle == "spot":
        instance.spot_instance_request_id = f"sir-{secrets.token_hex(4)}"  # type: ignore[attr-defined]


def _no_capacity(pool: Pool) -> str:
    return (
        f"We currently do not have sufficient {pool.instance_type} capacity in the Availability Zone you "
        f"requested ({pool.availability_zone}). Our system will be working on provisioning additional "
        "capacity."
    )


def stop(world: World, machine: Machine) -> None:
    """Soon: a warm pool stops what it does not need yet. Its address and its volumes stay."""
    if not machine.stops:
        machine.stops = True
        events.state_change(world, machine, "stopping")


def start(world: World, machine: Machine) -> None:
    """Boot it again from its volumes."""
    machine.stops, machine.stopped_at = False, None
    machine.runs_at = world.clock() + world.scaled(BOOT_SECONDS)
    machine.instance._state.name, machine.instance._state.code = "pending", 0
    events.state_change(world, machine, "pending")


def _stop_running(world: World, machine: Machine) -> None:
    _tell_killed(world, machine)
    machine.stops, machine.stopped_at = False, world.clock()
    machine.running_at, machine.runs_at = None, math.inf
    machine.instance._state.name, machine.instance._state.code = "stopped", 80
    events.state_change(world, machine, "stopped")


def start_running(world: World, metadata: MetadataServers, machine: Machine) -> None:
    machine.running_at = world.clock()
    machine.instance._state.name, machine.instance._state.code = "running", 16
    machine.role = _role(world, machine)
    metadata.open(machine)
    events.state_change(world, machine, "running")
    view = instance_view(world, machine)
    world.outbox.add(lambda: world.listener.launched(view))


def _role(world: World, machine: Machine) -> str | None:
    association = world.ec2.iam_instance_profile_associations.get(machine.id)
    roles = association.iam_instance_profile.roles if association else []
    return str(roles[0].name) if roles else None


def end(world: World, metadata: MetadataServers, machine: Machine) -> None:
    """The instance is gone: its process, its metadata and its address with it."""
    if machine.terminated_at is not None:
        return
    machine.terminated_at = world.clock()
    world.market.give_back(machine.pool, machine.option)
    if machine.running_at is None and not metadata.serves(machine.id):
        machine.lease.release()
    else:
        metadata.close(machine.id)
        _tell_killed(world, machine)
    events.state_change(world, machine, "shutting-down")
    events.state_change(world, machine, "terminated")


def vanish(world: World, machine: Machine) -> None:
    """Kill what runs on the instance; AWS is told nothing."""
    if machine.killed_at is None:
        _tell_killed(world, machine)
        machine.killed_at = world.clock()
        world.tell("instance.killed", machine.id, machine.group)


def _tell_killed(world: World, machine: Machine) -> None:
    if machine.killed_at is None:
        instance_id = machine.id
        world.outbox.add(lambda: world.listener.killed(instance_id))


def recommend_rebalance(world: World, machine: Machine) -> None:
    if machine.rebalance_at is None:
        machine.rebalance_at = world.clock()
        events.rebalance_recommendation(world, machine)
        world.tell("notice.rebalance", machine.id, machine.group)


def give_notice(world: World, machine: Machine) -> None:
    """The interruption warning, now, in metadata and as an event; a second one changes nothing."""
    if machine.noticed_at is not None:
        return
    now = world.clock()
    machine.noticed_at, machine.taken_at = now, now + world.scaled(NOTICE_SECONDS)
    events.interruption_warning(world, machine)
    world.tell("notice.interruption", machine.id, machine.group, taken_at=f"{machine.taken_at:.3f}")


def advance(world: World, metadata: MetadataServers) -> None:
    """Boot what is due to run, and take away what was noticed long enough ago."""
    now = world.clock()
    for machine in list(world.machines.values()):
        if machine.terminated_at is not None:
            continue
        if machine.stops and machine.running_at is not None:
            _stop_running(world, machine)
        if machine.running_at is None and now >= machine.runs_at:
            start_running(world, metadata, machine)
        if machine.taken_at is not None and now >= machine.taken_at:
            _take_away(world, machine)


def _take_away(world: World, machine: Machine) -> None:
    world.ec2.terminate_instances([machine.id])
    world.elbv2.notify_terminate_instances([machine.id])
    machine.instance._reason = "Server.SpotInstanceTermination"
    machine.instance.state_reason = StateReason(
        "Server.SpotInstanceTermination: Spot instance termination", "Server.SpotInstanceTermination"
    )


def install(world: World, metadata: MetadataServers, patches: Patches) -> None:
    """Give every instance that moto runs or ends this life."""
    _install_run(world, metadata, patches)
    _install_end(world, metadata, patches)


def _install_run(world: World, metadata: MetadataServers, patches: Patches) -> None:
    def make_run(original: Any) -> Any:
        def run_instances(
            self: EC2Backend, image_id: str, count: int, user_data: Any, groups: list[str], **kwargs: Any
        ) -> Any:
            image_id = resolve_image(image_id or _template_image(self, kwargs.get("launch_template")))
            require_image(world, image_id)
            reservation = original(self, image_id, count, user_data, groups, **kwargs)
            try:
                for instance in reservation.instances:
                    _require_price(instance)
                    adopt(world, instance)
            except EC2ClientError:
                _undo(world, metadata, reservation)
                raise
            return reservation

        return run_instances

    patches.wrap(EC2Backend, "run_instances", make_run)


def _install_end(world: World, metadata: MetadataServers, patches: Patches) -> None:
    def make_end(original: Any) -> Any:
        def terminate_instances(self: EC2Backend, instance_ids: list[str]) -> Any:
            ended = original(self, instance_ids)
            for instance_id in instance_ids:
                end(world, metadata, world.machines[instance_id])
            return ended

        return terminate_instances

    def make_stop(original: Any) -> Any:
        def stop_instances(self: EC2Backend, instance_ids: list[str]) -> Any:
            stopped = original(self, instance_ids)
            for instance_id in instance_ids:
                vanish(world, world.machines[instance_id])
            return stopped

        return stop_instances

    patches.wrap(EC2Backend, "terminate_instances", make_end)
    patches.wrap(EC2Backend, "stop_instances", make_stop)


def _template_image(ec2: EC2Backend, launch_template: Any) -> str:
    return str(ec2._get_template_from_args(launch_template).image_id) if launch_template else ""


def _require_price(instance: Instance) -> None:
    try:
        on_demand_price(instance.instance_type)
    except PriceUnknown as error:
        raise EC2ClientError("InvalidParameterValue", error.message) from error


def _undo(world: World, metadata: MetadataServers, reservation: Any) -> None:
    for instance in reservation.instances:
        if (machine := world.machines.pop(instance.id, None)) is not None:
            end(world, metadata, machine)
        instance.terminate()
    world.ec2.reservations.pop(reservation.id, None)
