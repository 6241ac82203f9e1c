"""A snapshot as a table for people and as JSON for programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fleet.oncall.snapshot import NodeView, Snapshot, TierView
from fleet.oncall.table import Fitting
from fleet.oncall.terminal import printable

_STYLES = {
    "serving": "green",
    "healthy": "green",
    "accepting": "yellow",
    "refusing": "yellow",
    "handing_over": "yellow",
    "empty": "dim",
    "leaving": "dim",
    "dead": "red",
    "unhealthy": "red",
}
_LEFT_OUT = ("moved", "handed_over_ids")
_NO_NEWS = ("serving", "healthy")


def state_of(node: NodeView) -> str:
    """One word: the drain's phase while it drains, else what keeps it from serving, else `serving`."""
    if node.draining:
        return str(node.phase)
    if node.lifecycle_state.startswith("Pending"):
        return "booting"
    if node.lifecycle_state.startswith("Terminat"):
        return "leaving"
    if node.phase == "dead":
        return "dead"
    if node.target_state == "unhealthy":
        return "unhealthy"
    if node.phase is None:
        return node.target_state or node.lifecycle_state.lower()
    return "serving" if node.ready is not False else "loading"


def as_json(snapshot: Snapshot, region: str) -> dict[str, Any]:
    """Times are unix seconds, ages and countdowns seconds, prices US dollars an hour; null is not known."""
    return {
        "stack": snapshot.stack,
        "region": region,
        "at": snapshot.at,
        "took_s": round(snapshot.took_s, 3),
        "tiers": [{**asdict(tier), "stale": tier.stale} for tier in snapshot.tiers],
        "nodes": [node_as_json(node, snapshot.at) for node in snapshot.nodes],
    }


def node_as_json(node: NodeView, now: float) -> dict[str, Any]:
    told = {key: value for key, value in asdict(node).items() if key not in _LEFT_OUT}
    left_s = None if node.deadline is None else round(node.deadline - now, 1)
    return {**told, "state": state_of(node), "age_s": round(now - node.launched_at, 1), "left_s": left_s}


def describe(snapshot: Snapshot, region: str, most: int | None = None) -> RenderableType:
    """`most`: lines for nodes, where there is no room for all: those that only serve are left out first."""
    dollars = sum(node.hourly_price or 0.0 for node in snapshot.nodes)
    spot = sum(node.purchase_option == "spot" for node in snapshot.nodes)
    head = (
        f"{snapshot.stack}  {region}  {len(snapshot.nodes)} nodes, {spot} spot, ${dollars:.3f} an hour, "
        f"at {time.strftime('%H:%M:%S', time.gmtime(snapshot.at))} UTC in {snapshot.took_s:.1f} s"
    )
    shown, others = _divided(snapshot.nodes, most)
    nodes = Fitting([_of_node(node, snapshot.at) for node in shown])
    return Group(
        Text(head),
        Text(),
        Fitting([_of_tier(tier) for tier in snapshot.tiers]),
        Text(),
        nodes,
        *_left_out(others),
        *_notes(snapshot),
    )


def _divided(nodes: Sequence[NodeView], most: int | None) -> tuple[list[NodeView], list[NodeView]]:
    """Those to show, in their order, and the others."""
    if most is None or len(nodes) <= most:
        return list(nodes), []
    news_first = sorted(nodes, key=lambda node: state_of(node) in _NO_NEWS)
    shown = {node.instance_id for node in news_first[: max(0, most - 1)]}
    others = [node for node in nodes if node.instance_id not in shown]
    return [node for node in nodes if node.instance_id in shown], others


def _left_out(others: Sequence[NodeView]) -> list[Text]:
    counts = Counter(map(state_of, others))
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return [Text(f"and {len(others)} more: {told}")] if others else []


def _of_tier(tier: TierView) -> dict[str, Text]:
    short = tier.in_service < tier.desired
    return {
        "TIER": Text(tier.name),
        "MIN": Text(str(tier.min)),
        "WANTED": Text(str(tier.desired)),
        "MAX": Text(str(tier.max)),
        "SERVING": Text(str(tier.in_service), style="red" if short else ""),
        "PENDING": Text(str(tier.pending)),
        "BASE": Text(str(tier.on_demand_base)),
        "IMAGE": _image(tier.image_id, stale=tier.stale),
    }


def _of_node(node: NodeView, at: float) -> dict[str, Text]:
    state = state_of(node)
    return {
        "NODE": Text(node.instance_id),
        "TIER": Text(node.tier),
        "ADDRESS": Text(node.address),
        "OPTION": Text(node.purchase_option),
        "ZONE": Text(node.availability_zone),
        "AGE": Text(span(at - node.launched_at)),
        "IN FLIGHT": Text("-" if node.in_flight is None else str(node.in_flight)),
        "STATE": Text(state, style=_STYLES.get(state, "")),
        "LEFT": Text("" if node.deadline is None else span(max(0.0, node.deadline - at))),
        "REASON": Text(printable(node.reason or "")),
        "IMAGE": _image(node.image_id, stale=node.stale),
    }


def _image(image_id: str, *, stale: bool) -> Text:
    return Text(f"{image_id} stale" if stale else image_id, style="yellow" if stale else "")


def _notes(snapshot: Snapshot) -> list[Text]:
    running = [node for node in snapshot.nodes if state_of(node) not in ("booting", "leaving")]
    silent = sum(node.phase is None for node in running)
    if not silent:
        return []
    lost = f"{silent} of {len(running)} running nodes do not answer from here, nor through the control Lambda"
    return [Text(), Text(f"{lost}: in flight and drains are not known.", style="yellow")]


def span(seconds: float) -> str:
    """As people say it: 42s, 17m, 3h05, 2d04h."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}h{minutes:02}" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"
