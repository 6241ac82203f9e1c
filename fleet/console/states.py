"""What a node is doing, in one state, a few words and a sign. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleet.oncall.snapshot import NodeView

State = Literal["serving", "starting", "leaving", "unhealthy", "unknown"]

ICONS: dict[State, str] = {"serving": "●", "starting": "○", "leaving": "▼", "unhealthy": "✕", "unknown": "?"}

# Phases of a drain: docs/drain.md.
_DRAINING = {
    "accepting": "draining, still accepts",
    "refusing": "draining, refuses new",
    "handing_over": "handing over",
    "empty": "empty",
}
_UNDRAINABLE = ("accepting", "refusing")


@dataclass(frozen=True)
class Standing:
    state: State
    words: str


def standing(node: NodeView) -> Standing:
    """The node's own word goes before the account's, which learns later."""
    lifecycle, target = node.lifecycle_state, node.target_state
    if node.phase in _DRAINING:
        return Standing("leaving", _DRAINING[node.phase])
    if lifecycle.startswith(("Terminat", "Detach")):
        return Standing("leaving", lifecycle.partition(":")[0].lower())
    if target == "draining":
        return Standing("leaving", "deregistered")
    if lifecycle.startswith("Pending") or target == "initial":
        return Standing("starting", "starting")
    if node.phase == "dead":
        return Standing("unhealthy", "nothing listens")
    if target == "unhealthy":
        return Standing("unhealthy", "fails its health check")
    if "Standby" in lifecycle:
        return Standing("unknown", "standby")
    if lifecycle == "InService" and target == "healthy":
        return Standing("serving", "serving")
    return Standing("unknown", f"{lifecycle}, {target or 'no target'}")


def act(node: NodeView) -> Literal["drain", "undrain", ""]:
    """What a person can ask of the node."""
    if standing(node).state != "leaving":
        return "drain"
    return "undrain" if node.phase in _UNDRAINABLE and not node.binding else ""
