"""The fleet as the page shows it: one JSON object from what was read last. Pure; times are unix seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

from fleet.console.losses import Losses
from fleet.console.states import ICONS, act, standing
from fleet.console.stories import Entry, event_of, stories
from fleet.oncall.snapshot import NodeView, Snapshot, TierView

Part = Literal["fleet", "notices", "lost"]
Price = Callable[[str], float | None]
"""USD an hour of an instance type on demand; None where nobody knows."""

_FAILING: dict[Part, str] = {
    "fleet": "No word from AWS on the fleet",
    "notices": "No word from the log of notices",
    "lost": "No word on lost requests",
}
_MOST_EVENTS = 200


@dataclass(frozen=True)
class Failure:
    message: str
    hint: str
    since: float


@dataclass(frozen=True)
class Reading:
    """What was read last of each part; a part that fails keeps what it had."""

    stack: str
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()
    """Newest last."""
    losses: Losses | None = None
    failures: Mapping[Part, Failure] = field(default_factory=dict)


def picture(reading: Reading, price: Price) -> dict[str, Any]:
    found = reading.snapshot
    nodes = found.nodes if found else ()
    return {
        "stack": reading.stack,
        "at": found.at if found else None,
        "figures": _figures(reading, nodes, price) if found else {"lost": _lost(reading.losses)},
        "tiers": [_tier(tier, nodes) for tier in found.tiers] if found else [],
        "leaving": _leaving(nodes),
        "stories": stories(reading.entries, {node.instance_id for node in nodes}),
        "events": [event_of(entry) for entry in reversed(reading.entries[-_MOST_EVENTS:])],
        "failures": [
            {"part": part, "words": _FAILING[part], **asdict(why)} for part, why in reading.failures.items()
        ],
    }


def _leaving(nodes: Iterable[NodeView]) -> list[dict[str, Any]]:
    """The next to go first."""
    leaving = [node for node in nodes if standing(node).state == "leaving"]
    leaving.sort(key=lambda node: (node.deadline is None, node.deadline or 0.0, node.instance_id))
    return [{**_node(node, 0), "tier": node.tier, "zone": node.availability_zone} for node in leaving]


def _tier(tier: TierView, nodes: Iterable[NodeView]) -> dict[str, Any]:
    own = sorted(
        (node for node in nodes if node.tier == tier.name),
        key=lambda node: (node.availability_zone, node.launched_at, node.instance_id),
    )
    serving = _serving(own)
    zones = groupby(own, key=lambda node: node.availability_zone)
    missing = tier.desired - tier.in_service
    return {
        "name": tier.name,
        "desired": tier.desired,
        "words": _capacity(tier),
        "short": f"{missing} short of desired" if missing > 0 else "",
        "image": _image(tier),
        "zones": [
            {"name": name, "nodes": [_node(node, serving - _serving([node])) for node in inside]}
            for name, inside in zones
        ],
    }


def _capacity(tier: TierView) -> str:
    pending = f", {tier.pending} pending" if tier.pending else ""
    return (
        f"{tier.role} · {tier.in_service} in service of {tier.desired} desired{pending} · "
        f"min {tier.min}, max {tier.max} · on-demand base {tier.on_demand_base}"
    )


def _image(tier: TierView) -> str:
    if not tier.image_id:
        return ""
    return f"image {tier.image_id}" + (", not its channel's" if tier.stale else "")


def _node(node: NodeView, serving_after: int) -> dict[str, Any]:
    now = standing(node)
    words = (node.instance_id, node.address, node.tier, node.availability_zone, node.instance_type)
    return {
        "id": node.instance_id,
        "zone": node.availability_zone,
        "address": node.address or "no address",
        "type": node.instance_type,
        "option": node.purchase_option,
        "launched_at": node.launched_at,
        "state": now.state,
        "words": now.words,
        "icon": ICONS[now.state],
        "stale": "old image" if node.stale else "",
        "in_flight": "-" if node.in_flight is None else str(node.in_flight),
        "deadline": node.deadline,
        "why": node.reason or "",
        "act": act(node),
        "serving_after": serving_after,
        "search": " ".join((*map(str, words), node.purchase_option, now.words)).lower(),
    }


def _serving(nodes: Iterable[NodeView]) -> int:
    return sum(standing(node).state == "serving" for node in nodes)


def _figure(value: str, words: str, level: Literal["", "ok", "warn", "bad"] = "") -> dict[str, Any]:
    return {"value": value, "words": words, "level": level}


def _figures(reading: Reading, nodes: Sequence[NodeView], price: Price) -> dict[str, Any]:
    assert reading.snapshot is not None
    return {
        "lost": _lost(reading.losses),
        "serving": _serving_figure(reading.snapshot.tiers, nodes),
        "in-flight": _in_flight(reading.snapshot.tiers, nodes),
        "split": _split(nodes),
        "cost": _cost(nodes, price),
    }


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")


def _lost(losses: Losses | None) -> dict[str, Any]:
    if losses is None:
        return _figure("-", "not asked yet")
    hour = "" if losses.hour is None else f"{losses.hour} in the last hour"
    if not losses.answered:
        if losses.hour is None:
            return _figure("-", "no gateway can be asked from here, and CloudWatch has no word")
        return _figure(str(losses.hour), "in the last hour, by CloudWatch", "bad" if losses.hour else "ok")
    silent = losses.gateways - losses.answered
    words = [f"since {_clock(losses.since)}", hour, f"{silent} gateways did not answer" if silent else ""]
    level: Literal["bad", "ok"] = "bad" if losses.count or losses.hour else "ok"
    return _figure(str(losses.count), ", ".join(filter(None, words)), level)


def _serving_figure(tiers: Iterable[TierView], nodes: Sequence[NodeView]) -> dict[str, Any]:
    states = [standing(node).state for node in nodes]
    others = [f"{states.count(state)} {state}" for state in ("leaving", "starting", "unhealthy", "unknown")]
    wanted = sum(tier.desired for tier in tiers)
    serving = states.count("serving")
    told = [f"of {wanted} desired", *(words for words in others if not words.startswith("0 "))]
    # A node that leaves is replaced: fewer than desired is news, none at all is an outage.
    if wanted and not serving:
        return _figure("0", ", ".join(told), "bad")
    return _figure(str(serving), ", ".join(told), "warn" if serving < wanted else "")


def _in_flight(tiers: Iterable[TierView], nodes: Iterable[NodeView]) -> dict[str, Any]:
    """What clients wait for is counted at gateways; nodes hold the same requests once more."""
    roles = {tier.name: tier.role for tier in tiers}
    known = [(roles.get(node.tier), node.in_flight) for node in nodes if node.in_flight is not None]
    if not known:
        return _figure("-", "no node can be asked from here")
    gateways = sum(count for role, count in known if role == "gateway")
    models = sum(count for role, count in known if role != "gateway")
    return _figure(str(gateways), f"requests at gateways, {models} at model nodes")


def _split(nodes: Sequence[NodeView]) -> dict[str, Any]:
    spot = sum(node.purchase_option == "spot" for node in nodes)
    share = round(100 * spot / len(nodes)) if nodes else 0
    return {**_figure(f"{share}%", f"{spot} spot, {len(nodes) - spot} on demand"), "share": share}


def _cost(nodes: Iterable[NodeView], price: Price) -> dict[str, Any]:
    """Of what runs now, and what the same instances would cost on demand."""
    known = [(node.hourly_price, price(node.instance_type)) for node in nodes]
    paid = sum(now for now, _ in known if now is not None)
    pairs = [(now, full) for now, full in known if now is not None and full is not None]
    full = sum(full for _, full in pairs)
    unknown = sum(now is None for now, _ in known)
    words = [
        f"{round(100 * (1 - sum(now for now, _ in pairs) / full))}% below all on demand" if full else "",
        f"{unknown} without a known price" if unknown else "",
    ]
    return _figure(f"{paid:.2f}", ", ".join(filter(None, words)))
