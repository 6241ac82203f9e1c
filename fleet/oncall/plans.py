"""What a drain or an undrain would do to each node, before anything is done. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.oncall.shown import span, state_of
from fleet.oncall.snapshot import NodeView, Snapshot


@dataclass(frozen=True)
class Planned:
    node: NodeView
    does: str
    """What will become of it; empty when nothing will be done."""
    because: str = ""
    """Why nothing will be done."""
    wanted: bool = False
    """What was asked for is so already."""

    def as_json(self) -> dict[str, Any]:
        return {
            "instance_id": self.node.instance_id,
            "tier": self.node.tier,
            "state": state_of(self.node),
            "in_flight": self.node.in_flight,
            "does": self.does or None,
            "because": self.because or None,
        }

    def __str__(self) -> str:
        node = self.node
        flight = "unknown" if node.in_flight is None else str(node.in_flight)
        name = f"{node.instance_id}  {node.tier}  {node.purchase_option}  {node.address}"
        return f"  {name}  {state_of(node)}, {flight} in flight: {self.does or f'nothing, {self.because}'}"


def to_drain(nodes: Sequence[NodeView], deadline_s: float) -> list[Planned]:
    return [_drain(node, deadline_s) for node in nodes]


def _drain(node: NodeView, deadline_s: float) -> Planned:
    if node.phase == "empty":
        return Planned(node, "", "it is empty already", wanted=True)
    if state_of(node) == "dead":
        return Planned(node, "leaves the load balancer and is replaced: its process is dead")
    if node.draining:
        left = "" if node.deadline is None else f", reason {node.reason!r}"
        return Planned(node, f"drains already{left}; at most its deadline comes nearer, to {deadline_s:g} s")
    return Planned(node, f"drains within {deadline_s:g} s, then it is ended and replaced")


def warnings(snapshot: Snapshot, nodes: Sequence[NodeView]) -> Iterator[str]:
    """What a person should have thought of: a tier that would have nobody left to go on with requests."""
    leaving = {node.instance_id for node in nodes}
    for tier in snapshot.tiers:
        there = [node for node in snapshot.nodes if node.tier == tier.name]
        serving = [node for node in there if state_of(node) in ("serving", "healthy")]
        left = [node for node in serving if node.instance_id not in leaving]
        if len(left) < len(serving) and not left:
            yield (
                f"no other node of tier {tier.name} serves: until the replacement does, its requests wait, "
                "and are refused once they have waited too long"
            )


def to_undrain(nodes: Sequence[NodeView], now: float) -> list[Planned]:
    return [_undrain(node, now) for node in nodes]


def _undrain(node: NodeView, now: float) -> Planned:
    left = "" if node.deadline is None else f" in {span(max(0.0, node.deadline - now))}"
    if node.binding:
        return Planned(node, "", f"AWS takes it away{left} ({node.reason}); no node can refuse that")
    if node.lifecycle_state.startswith("Terminat"):
        return Planned(node, "", "its group is ending it, and its replacement has its place")
    if node.lifecycle_state == "Detached":
        return Planned(node, "", "its group has let it go, and its replacement has its place")
    if node.phase == "dead":
        return Planned(node, "", "its process is dead")
    if node.phase == "serving":
        return Planned(node, "", "it does not drain", wanted=True)
    return Planned(node, "serves again")
