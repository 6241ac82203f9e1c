"""A snapshot as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.oncall.snapshot import NodeView, Snapshot, TierView

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


def describe(snapshot: Snapshot, region: str) -> RenderableType:
    dollars = sum(node.hourly_price or 0.0 for node in snapshot.nodes)
    spot = sum(node.purchase_option == "spot" for node in snapshot.nodes)
    head = (
        f"{snapshot.stack}  {region}  {len(snapshot.nodes)} nodes, {spot} spot, ${dollars:.3f} an hour, "
        f"looked at in {snapshot.took_s:.1f} s"
    )
    return Group(Text(head), Text(), _tiers(snapshot.tiers), Text(), _nodes(snapshot), *_notes(snapshot))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = column in ("MIN", "WANTED", "MAX", "SERVING", "PENDING", "BASE", "AGE", "IN FLIGHT", "LEFT")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=column != "REASON")
    return table


def _tiers(tiers: Sequence[TierView]) -> Table:
    table = _table("TIER", "MIN", "WANTED", "MAX", "SERVING", "PENDING", "BASE", "IMAGE")
    for tier in tiers:
        short = tier.in_service < tier.desired
        table.add_row(
            tier.name,
            str(tier.min),
            str(tier.desired),
            str(tier.max),
            Text(str(tier.in_service), style="red" if short else ""),
            str(tier.pending),
            str(tier.on_demand_base),
            _image(tier.image_id, stale=tier.stale),
        )
    return table


def _nodes(snapshot: Snapshot) -> Table:
    table = _table(
        "NODE", "TIER", "ADDRESS", "OPTION", "ZONE", "AGE", "IN FLIGHT", "STATE", "LEFT", "REASON", "IMAGE"
    )
    for node in snapshot.nodes:
        state = state_of(node)
        table.add_row(
            node.instance_id,
            node.tier,
            node.address,
            node.purchase_option,
            node.availability_zone,
            span(snapshot.at - node.launched_at),
            "-" if node.in_flight is None else str(node.in_flight),
            Text(state, style=_STYLES.get(state, "")),
            "" if node.deadline is None else span(max(0.0, node.deadline - snapshot.at)),
            node.reason or "",
            _image(node.image_id, stale=node.stale),
        )
    return table


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
