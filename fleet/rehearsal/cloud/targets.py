"""Target groups whose targets have the health of real nodes: registration, draining and what moto shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moto.elbv2.exceptions import TargetGroupNotFoundError
from moto.elbv2.models import ELBv2Backend, FakeHealthStatus, FakeTargetGroup

from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import TargetRecord
from fleet.rehearsal.cloud.views import Target, TargetState
from fleet.rehearsal.cloud.world import World

# An ALB goes on sending new requests for 17-40 s after DeregisterTargets
# (aws-load-balancer-controller#2366, #1064, #2106).
DEREGISTRATION_LAG_SECONDS = 20.0
_DESCRIPTIONS = {
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Elb.InitialHealthChecking": "Initial health checks in progress",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.InvalidState": "Target is in the stopped state",
    "Target.Timeout": "Request timed out",
    "Target.FailedHealthChecks": "Health checks failed",
}


def change(
    world: World,
    arn: str,
    record: TargetRecord,
    state: TargetState,
    reason: str | None,
    description: str | None = None,
) -> None:
    """Set a target's state and tell of it if it is another."""
    changed = record.state != state
    record.state, record.reason = state, reason
    record.description = description or (_DESCRIPTIONS.get(reason) if reason else None)
    if changed:
        group = _group_of(world, record.instance_id)
        world.tell(f"target.{state}", record.instance_id, group, target_group=arn, reason=reason or "")


def register(world: World, arn: str, instance_id: str, port: int) -> None:
    """A new target, or one that comes back while it drains, starts at `initial`."""
    records = world.targets.setdefault(arn, {})
    known = records.get(instance_id)
    if known is not None and known.deregistered_at is None and known.port == port:
        return
    record = TargetRecord(instance_id, port, "unused", "Target.NotRegistered")
    records[instance_id] = record
    if in_use(world, arn):
        change(world, arn, record, "initial", "Elb.RegistrationInProgress")
    else:
        change(world, arn, record, "unused", "Target.NotInUse")


def deregister(world: World, arn: str, instance_id: str) -> None:
    """Drain the target for the group's deregistration delay; nothing happens to one not registered."""
    record = world.targets.get(arn, {}).get(instance_id)
    if record is None or record.deregistered_at is not None:
        return
    now = world.clock()
    record.was_routed = record.state == "healthy"
    record.deregistered_at = now
    if record.state == "unused":
        _forget(world, arn, instance_id)
        return
    record.gone_at = now + world.scaled(deregistration_delay(world, arn))
    change(world, arn, record, "draining", "Target.DeregistrationInProgress")


def deregister_everywhere(world: World, instance_id: str, arns: Sequence[str] | None = None) -> float:
    """Take an instance out of the groups named, or of all; returns when its connections are drained.

    A target that serves nothing (never healthy, or dead) is done at once, as on AWS.
    """
    now = world.clock()
    done = now
    for arn, target_group in list(world.elbv2.target_groups.items()):
        if (arns is not None and arn not in arns) or instance_id not in target_group.targets:
            continue
        target_group.targets.pop(instance_id)
        deregister(world, arn, instance_id)
    machine = world.machines.get(instance_id)
    for records in world.targets.values():
        record = records.get(instance_id)
        if record and record.gone_at and record.was_routed and machine and machine.is_alive:
            done = max(done, record.gone_at)
    return done


def expire(world: World) -> None:
    """Forget targets whose draining is over, and follow groups that came into use or fell out of it."""
    now = world.clock()
    for arn, records in list(world.targets.items()):
        if arn not in world.elbv2.target_groups:
            del world.targets[arn]
            continue
        used = in_use(world, arn)
        for record in list(records.values()):
            if record.gone_at is not None and now >= record.gone_at:
                _forget(world, arn, record.instance_id)
            elif record.deregistered_at is None:
                _follow_use(world, arn, record, used)


def in_use(world: World, arn: str) -> bool:
    """Whether a listener of a load balancer forwards to the group."""
    return bool(world.elbv2._any_listener_using(arn))


def deregistration_delay(world: World, arn: str) -> float:
    """Seconds of AWS."""
    return float(str(world.elbv2.target_groups[arn].attributes["deregistration_delay.timeout_seconds"]))


def views(world: World, arn: str) -> list[Target]:
    """The group's targets as the balancer sees them. With none healthy it fails open, as an ALB does."""
    records = list(world.targets.get(arn, {}).values())
    fails_open = not any(record.state == "healthy" for record in records)
    return [_view(world, record, fails_open) for record in records if record.instance_id in world.machines]


def _view(world: World, record: TargetRecord, fails_open: bool) -> Target:
    lag_ends = (record.deregistered_at or 0.0) + world.scaled(DEREGISTRATION_LAG_SECONDS)
    routed = (
        record.state == "healthy"
        or (record.state == "unhealthy" and fails_open)
        or (record.state == "draining" and record.was_routed and world.clock() < lag_ends)
    )
    address = world.machines[record.instance_id].lease.address
    return Target(record.instance_id, address, record.port, record.state, record.reason, routed)


def _follow_use(world: World, arn: str, record: TargetRecord, used: bool) -> None:
    if used and record.state == "unused":
        record.passes = record.failures = 0
        change(world, arn, record, "initial", "Elb.RegistrationInProgress")
    elif not used and record.state != "unused":
        change(world, arn, record, "unused", "Target.NotInUse")


def _forget(world: World, arn: str, instance_id: str) -> None:
    del world.targets[arn][instance_id]
    world.tell("target.gone", instance_id, _group_of(world, instance_id), target_group=arn)


def _group_of(world: World, instance_id: str) -> str | None:
    machine = world.machines.get(instance_id)
    return machine.group if machine else None


def _status(world: World, target_group: FakeTargetGroup, target: dict[str, Any]) -> FakeHealthStatus:
    record = world.targets.get(target_group.arn, {}).get(target["Id"])
    port = str(record.port if record else target.get("Port") or target_group.port)
    state, reason, description = "unused", "Target.NotRegistered", _DESCRIPTIONS["Target.NotRegistered"]
    if record is not None:
        state, reason, description = record.state, record.reason or "", record.description or ""
    check_port = target_group.health_check_port
    return FakeHealthStatus(
        target["Id"],
        port,
        port if check_port == "traffic-port" else check_port,
        state,
        reason or None,
        description or None,
    )


def install(world: World, patches: Patches) -> None:
    """Make moto's target groups keep and show these states."""

    def make_register(original: Any) -> Any:
        def register_all(self: FakeTargetGroup, wanted: list[dict[str, Any]]) -> None:
            original(self, wanted)
            for target in wanted:
                register(world, self.arn, target["Id"], int(self.targets[target["Id"]]["Port"]))

        return register_all

    def deregister_all(self: FakeTargetGroup, wanted: list[dict[str, Any]]) -> None:
        # "If the specified target does not exist, the action returns successfully" (API reference).
        for target in wanted:
            self.targets.pop(target["Id"], None)
            deregister(world, self.arn, target["Id"])

    def deregister_terminated(self: FakeTargetGroup, instance_ids: list[str]) -> None:
        deregister_all(self, [{"Id": one} for one in instance_ids if one in self.targets])

    def describe(self: ELBv2Backend, target_group_arn: str, wanted: list[dict[str, Any]]) -> Any:
        target_group = self.target_groups.get(target_group_arn)
        if target_group is None:
            raise TargetGroupNotFoundError()
        known = [{"Id": one} for one in world.targets.get(target_group_arn, {})]
        return [_status(world, target_group, target) for target in wanted or known]

    def health_for(self: FakeTargetGroup, target: dict[str, Any], _ec2: Any) -> FakeHealthStatus:
        return _status(world, self, target)

    patches.wrap(FakeTargetGroup, "register", make_register)
    patches.set(FakeTargetGroup, "deregister", deregister_all)
    patches.set(FakeTargetGroup, "deregister_terminated_instances", deregister_terminated)
    patches.set(FakeTargetGroup, "health_for", health_for)
    patches.set(ELBv2Backend, "describe_target_health", describe)
