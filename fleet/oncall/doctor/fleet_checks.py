"""Findings about tiers and nodes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fleet.oncall.doctor.finding import Finding
from fleet.oncall.shown import span, state_of
from fleet.oncall.snapshot import NodeView, Snapshot

_BOOTS_S: Final = 900.0  # after so long a node that does not serve will not


def _sizes(snapshot: Snapshot) -> Iterator[Finding]:
    bad = False
    for tier in snapshot.tiers:
        if tier.in_service < tier.desired:
            bad = True
            yield Finding(
                "sizes",
                "fail" if not tier.in_service else "warn",
                f"{tier.name} has {tier.in_service} of {tier.desired} nodes in service, {tier.pending} come",
                "Right while nodes boot; for longer there is no capacity, or nodes do not come up.",
                f"aws autoscaling describe-scaling-activities --auto-scaling-group-name {tier.group}",
            )
        elif tier.desired == tier.max and tier.max > tier.min:
            bad = True
            yield Finding(
                "sizes",
                "warn",
                f"{tier.name} is at its max of {tier.max}",
                "It cannot grow with the load: what comes beyond it is shed.",
                f"goldenfleet cost --stack {snapshot.stack}, then raise capacity.max; docs/oncall.md#full",
            )
    if not bad:
        yield Finding("sizes", "ok", "every tier has as many nodes in service as it wants")


def _suspended(snapshot: Snapshot) -> Iterator[Finding]:
    found = [tier for tier in snapshot.tiers if tier.suspended]
    for tier in found:
        yield Finding(
            "processes",
            "fail",
            f"{tier.name}: suspended: {', '.join(tier.suspended)}",
            "Somebody left them so: Auto Scaling does not replace, launch or balance as it should.",
            f"aws autoscaling resume-processes --auto-scaling-group-name {tier.group}",
        )
    if not found:
        yield Finding("processes", "ok", "no process of Auto Scaling is suspended")


def _fallback(snapshot: Snapshot) -> Iterator[Finding]:
    found = False
    for tier in snapshot.tiers:
        if tier.configured_base is not None and tier.on_demand_base > tier.configured_base:
            found = True
            yield Finding(
                "fallback",
                "warn",
                f"{tier.name} runs {tier.on_demand_base} nodes on demand, {tier.configured_base} are usual",
                "Spot cannot fill it, so it costs more for now; it goes back by itself.",
                f"goldenfleet notices --stack {snapshot.stack} | grep fallback",
            )
    if not found:
        yield Finding("fallback", "ok", "no tier has fallen back to on demand")


def _images(snapshot: Snapshot) -> Iterator[Finding]:
    bad = False
    for tier in snapshot.tiers:
        of_it = [node for node in snapshot.nodes if node.tier == tier.name]
        old = [node for node in of_it if node.stale]
        if not tier.image_id:
            bad = True
            means = (
                "It cannot be told what the next node will be; if the template is gone, there will be none."
            )
            yield Finding("images", "warn", f"{tier.name}: its launch template cannot be read", means)
        elif tier.stale or old:
            bad = True
            newest = tier.channel_image_id or tier.image_id
            yield Finding(
                "images",
                "warn",
                f"{tier.name}: {len(old)} of {len(of_it)} nodes are not of {newest}",
                "Right during a rollout; otherwise a newer image was published and not rolled out.",
                f"goldenfleet preview --stack {snapshot.stack}, then up",
            )
    if not bad:
        yield Finding("images", "ok", "every node has the image that its channel points at")


def _nodes(snapshot: Snapshot) -> Iterator[Finding]:
    bad = [finding for node in snapshot.nodes if (finding := _node(node, snapshot)) is not None]
    yield from bad
    draining = sum(node.draining for node in snapshot.nodes)
    if not bad:
        yield Finding("nodes", "ok", f"{len(snapshot.nodes)} nodes, {draining} of them drain")


def _node(node: NodeView, snapshot: Snapshot) -> Finding | None:
    state, age_s = state_of(node), snapshot.at - node.launched_at
    replace = f"goldenfleet drain {node.instance_id} -m unhealthy --stack {snapshot.stack}"
    logs = f"goldenfleet logs {node.instance_id} --stack {snapshot.stack}"
    if state == "dead":
        means = "Nothing listens on it: its process ended. Health checks find out, and it is replaced."
        return Finding("nodes", "fail", f"{node.instance_id} of {node.tier} is dead", means, logs)
    if state == "unhealthy":
        means = "It fails the load balancer's health checks; its group replaces it when it may."
        return Finding("nodes", "fail", f"{node.instance_id} of {node.tier} is unhealthy", means, replace)
    if state in ("booting", "loading", "initial") and age_s > _BOOTS_S:
        means = "It does not come up: its image, its weights or its configuration."
        told = f"{node.instance_id} of {node.tier} is {state} for {span(age_s)}"
        return Finding("nodes", "fail", told, means, logs)
    if node.lifecycle_state == "Standby" and not node.draining:
        means = "Somebody looks at it, or a drain was never ended: it costs, and serves nobody."
        told = f"{node.instance_id} of {node.tier} is in standby"
        return Finding("nodes", "warn", told, means, f"goldenfleet undrain {node.instance_id}")
    return None


def _reach(snapshot: Snapshot) -> Iterator[Finding]:
    running = [node for node in snapshot.nodes if state_of(node) not in ("booting", "leaving")]
    silent = [node for node in running if node.phase is None]
    if not silent:
        yield Finding("reach", "ok", f"{len(running)} running nodes answer")
    elif len(silent) == len(running):
        yield Finding(
            "reach",
            "warn",
            "no node answers from here, nor through the control function",
            "What is in flight is not known; drains work all the same.",
            "Ask from the VPC or a VPN that leads there, or let your role invoke the control function.",
        )
    else:
        yield Finding(
            "reach",
            "fail",
            f"{len(silent)} of {len(running)} running nodes do not answer: {silent[0].instance_id} and so on",
            "They hang, or a security group keeps their admin port shut.",
            f"goldenfleet connect {silent[0].instance_id} --stack {snapshot.stack}",
        )


FLEET_CHECKS: Final[tuple[Callable[[Snapshot], Iterator[Finding]], ...]] = (
    _sizes,
    _suspended,
    _fallback,
    _images,
    _nodes,
    _reach,
)
