"""The fleet as it is now, in one look: groups, instances, target health, images, and what nodes say."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fleet.control.fallback_record import read_rules
from fleet.oncall import images
from fleet.oncall.aws import STACK_TAG, TIER_TAG, Aws, tags
from fleet.oncall.images import Images
from fleet.oncall.nodes import SILENT, Said, ask_all
from fleet.oncall.prices import hourly_price
from fleet.oncall.threads import begin, side_by_side

_PAGE: Final = 1000  # the most that DescribeInstances gives at once
_ALIVE: Final = ["pending", "running", "shutting-down", "stopping", "stopped"]
_ENDED: Final = "terminated"
_AT_ONCE: Final = 4
_IN_SERVICE, _PENDING = "InService", ("Pending", "Pending:Wait", "Pending:Proceed")
# A node registered with several target groups is as well as the worst of them says.
_WORST_FIRST = ("draining", "unhealthy", "unhealthy.draining", "unavailable", "initial", "unused", "healthy")


@dataclass(frozen=True)
class TierView:
    name: str
    role: str
    """`gateway` or `model`; empty where its parameter cannot be read."""
    group: str
    min: int
    desired: int
    max: int
    in_service: int
    pending: int
    on_demand_base: int
    image_id: str
    """What its group launches now."""
    channel_image_id: str | None = None
    """What its channel points at; None where it cannot be told."""
    target_groups: tuple[str, ...] = ()
    configured_base: int | None = None
    """The base that is usual: fallback raises `on_demand_base` above it. None where there is no fallback."""
    suspended: tuple[str, ...] = ()
    """Processes of Auto Scaling that somebody suspended."""

    @property
    def stale(self) -> bool:
        return self.channel_image_id not in (None, self.image_id)


@dataclass(frozen=True)
class NodeView:
    """One instance that is not gone. Times are unix seconds; None is not known."""

    instance_id: str
    tier: str
    address: str
    purchase_option: str
    """`spot` or `on-demand`."""
    instance_type: str
    availability_zone: str
    launched_at: float
    lifecycle_state: str
    """Auto Scaling's, `Detached` for one that no group has any more."""
    target_state: str | None
    phase: str | None
    """Of its drain: `serving` without one; `dead` when nothing listens there, None when it is silent."""
    in_flight: int | None
    deadline: float | None
    reason: str | None
    image_id: str
    hourly_price: float | None
    """US dollars, by the table of prices."""
    name: str = ""
    role: str = ""
    ready: bool | None = None
    stale: bool = False
    """Its image is not the one that its tier's channel points at, or its group launches."""
    binding: bool = False
    """AWS is taking it away: its drain cannot be undone."""
    handed_over: int | None = None
    handed_over_ids: tuple[str, ...] = ()
    """Requests that its drain ended so that they go on elsewhere; of many, the last."""
    cut: int = 0
    """Requests that its drain had to cut without a word."""
    moved: Mapping[str, str] = field(default_factory=dict)
    """Of a gateway: request -> `running`, or how it ended, for those it went on with on another node."""

    @property
    def draining(self) -> bool:
        return self.phase in ("accepting", "refusing", "handing_over", "empty")


@dataclass(frozen=True)
class Snapshot:
    """`at` in unix seconds. Tiers by name, gateways first; nodes by tier, zone and age."""

    at: float
    stack: str
    tiers: tuple[TierView, ...]
    nodes: tuple[NodeView, ...]
    took_s: float = 0.0


@dataclass(frozen=True)
class _Found:
    """What AWS says, before nodes are asked."""

    groups: Sequence[Mapping[str, Any]]
    instances: Sequence[Mapping[str, Any]]
    health: Mapping[str, str]
    images: Images
    members: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_snapshot(aws: Aws, *, ended: bool = False) -> Snapshot:
    """Some seconds at most, however large the fleet: calls in pages, side by side. Raises OnCallError.

    With `ended` it has the nodes, too, that EC2 still remembers.
    """
    began, now = time.monotonic(), time.time()
    found = _look(aws, [*_ALIVE, _ENDED] if ended else _ALIVE)
    addresses = {
        one["InstanceId"]: one["PrivateIpAddress"]
        for one in found.instances
        if one.get("PrivateIpAddress") and one["State"]["Name"] == "running"
    }
    said = ask_all(aws, addresses)
    tiers = tuple(sorted((_tier(group, found) for group in found.groups), key=_gateways_first))
    by_name = {tier.name: tier for tier in tiers}
    nodes = [
        _node(one, found, said.get(one["InstanceId"], SILENT), by_name, aws.region) for one in found.instances
    ]
    order = list(by_name)
    nodes.sort(key=lambda node: (_place(order, node.tier), node.availability_zone, node.launched_at))
    return Snapshot(now, aws.stack, tiers, tuple(nodes), time.monotonic() - began)


def load_nodes(aws: Aws, nodes: Iterable[NodeView]) -> dict[str, Said]:
    """What some nodes say now, and nothing else: for following a drain."""
    return ask_all(aws, {node.instance_id: node.address for node in nodes if node.address})


def _look(aws: Aws, states: Sequence[str]) -> _Found:
    instances = begin(lambda: _instances(aws, states))
    groups = begin(lambda: _groups(aws)).result()
    told = begin(lambda: images.load(aws, groups))
    arns = sorted({arn for group in groups for arn in group.get("TargetGroupARNs", ())})
    health = side_by_side(lambda arn: _health(aws, arn), arns, _AT_ONCE)
    members = {one["InstanceId"]: one for group in groups for one in group["Instances"]}
    return _Found(groups, instances.result(), _worst(health), told.result(), members)


def _groups(aws: Aws) -> list[dict[str, Any]]:
    own = [{"Name": f"tag:{STACK_TAG}", "Values": [aws.stack]}]
    return aws.pages("autoscaling.describe_auto_scaling_groups", "AutoScalingGroups", Filters=own)


def _instances(aws: Aws, states: Sequence[str]) -> list[dict[str, Any]]:
    filters = [
        {"Name": f"tag:{STACK_TAG}", "Values": [aws.stack]},
        {"Name": "instance-state-name", "Values": list(states)},
    ]
    paging = {"PageSize": _PAGE}
    reservations = aws.pages(
        "ec2.describe_instances", "Reservations", Filters=filters, PaginationConfig=paging
    )
    found = [one for reservation in reservations for one in reservation["Instances"]]
    # A builder of images bears the stack's tag, too, and no tier's.
    return [one for one in found if TIER_TAG in tags(one)]


def _health(aws: Aws, arn: str) -> list[tuple[str, str]]:
    answer = aws.call("elbv2.describe_target_health", TargetGroupArn=arn)
    return [(one["Target"]["Id"], one["TargetHealth"]["State"]) for one in answer["TargetHealthDescriptions"]]


def _worst(health: Sequence[Sequence[tuple[str, str]]]) -> dict[str, str]:
    states: dict[str, list[str]] = {}
    for instance_id, state in (pair for group in health for pair in group):
        states.setdefault(instance_id, []).append(state)
    return {one: min(seen, key=lambda state: _place(_WORST_FIRST, state)) for one, seen in states.items()}


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _gateways_first(tier: TierView) -> tuple[bool, str]:
    return tier.role != "gateway", tier.name


def _tier(group: Mapping[str, Any], found: _Found) -> TierView:
    name, states = tags(group).get(TIER_TAG, ""), [one["LifecycleState"] for one in group["Instances"]]
    distribution = group.get("MixedInstancesPolicy", {}).get("InstancesDistribution", {})
    return TierView(
        name=name,
        role=found.images.roles.get(name, ""),
        group=group["AutoScalingGroupName"],
        min=group["MinSize"],
        desired=group["DesiredCapacity"],
        max=group["MaxSize"],
        in_service=states.count(_IN_SERVICE),
        pending=sum(state in _PENDING for state in states),
        on_demand_base=distribution.get("OnDemandBaseCapacity", 0),
        image_id=found.images.launched.get(name, ""),
        channel_image_id=found.images.channels.get(name),
        target_groups=tuple(group.get("TargetGroupARNs", ())),
        configured_base=rules.base if (rules := read_rules(tags(group))) and rules.enabled else None,
        suspended=tuple(sorted(one["ProcessName"] for one in group.get("SuspendedProcesses", ()))),
    )


def _node(
    one: Mapping[str, Any], found: _Found, said: Said, tiers: Mapping[str, TierView], region: str
) -> NodeView:
    instance_id, tagged = one["InstanceId"], tags(one)
    option = "spot" if one.get("InstanceLifecycle") == "spot" else "on-demand"
    tier = tiers.get(tagged[TIER_TAG])
    wanted = {tier.image_id, tier.channel_image_id} - {None, ""} if tier else set()
    in_flight, handed_over = said.number("in_flight"), said.number("handed_over")
    return NodeView(
        instance_id=instance_id,
        tier=tagged[TIER_TAG],
        address=one.get("PrivateIpAddress", ""),
        purchase_option=option,
        instance_type=one["InstanceType"],
        availability_zone=one["Placement"]["AvailabilityZone"],
        launched_at=one["LaunchTime"].timestamp(),
        lifecycle_state=_lifecycle_state(one, found),
        target_state=found.health.get(instance_id),
        phase=said.phase or ("dead" if said.condition == "dead" else None),
        in_flight=None if in_flight is None else int(in_flight),
        deadline=said.number("deadline"),
        reason=said.text("reason"),
        image_id=one["ImageId"],
        hourly_price=hourly_price(region, one["InstanceType"], option),
        name=tagged.get("Name", ""),
        role=tier.role if tier else "",
        ready=bool(said.state["ready"]) if "ready" in said.state else None,
        stale=bool(wanted) and wanted != {one["ImageId"]},
        binding=said.state.get("binding") is True,
        handed_over=None if handed_over is None else int(handed_over),
        handed_over_ids=said.texts("handed_over_ids"),
        cut=int(said.number("cut") or 0),
        moved=said.pairs("moved"),
    )


def _lifecycle_state(one: Mapping[str, Any], found: _Found) -> str:
    member = found.members.get(one["InstanceId"])
    if member is not None:
        return str(member["LifecycleState"])
    state = one["State"]["Name"]
    if state == _ENDED:
        return "Terminated"
    return "Terminating" if state in ("shutting-down", "stopping") else "Detached"
