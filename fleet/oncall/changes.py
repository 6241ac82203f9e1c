"""What is different from one look at a fleet to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fleet.oncall.shown import state_of
from fleet.oncall.snapshot import NodeView, Snapshot
from fleet.oncall.terminal import printable


@dataclass(frozen=True)
class Change:
    """`at` in unix seconds. `instance_id` is empty for a tier's; `before` and `after` None where there is
    nothing."""

    at: float
    tier: str
    instance_id: str
    what: str
    before: str | int | None
    after: str | int | None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}

    def __str__(self) -> str:
        name = f"{self.instance_id}  {self.tier}" if self.instance_id else self.tier
        if self.before is None:
            told = f"new: {self.after}"
        elif self.after is None:
            told = f"gone, was {self.before}"
        else:
            told = f"{self.before} -> {self.after}"
        return f"{name}  {self.what}  {told}{f'  ({printable(self.note)})' if self.note else ''}"


def changes(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    yield from _of_tiers(before, after)
    old = {node.instance_id: node for node in before.nodes}
    new = {node.instance_id: node for node in after.nodes}
    for instance_id in [*old, *(one for one in new if one not in old)]:
        yield from _of_node(after.at, old.get(instance_id), new.get(instance_id))


def _of_tiers(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    old = {tier.name: tier for tier in before.tiers}
    for tier in after.tiers:
        known = old.get(tier.name)
        for what in ("min", "desired", "max", "in_service", "on_demand_base", "image_id"):
            was, now = getattr(known, what, None), getattr(tier, what)
            if was != now:
                yield Change(after.at, tier.name, "", what, was, now)


def _of_node(at: float, old: NodeView | None, new: NodeView | None) -> Iterator[Change]:
    one = new or old
    assert one is not None
    was, now = state_of(old) if old else None, state_of(new) if new else None
    if was != now:
        note = (one.reason or "") if new is not None and new.draining else ""
        yield Change(at, one.tier, one.instance_id, "state", was, now, note)
    elif old is not None and new is not None and new.draining and old.in_flight != new.in_flight:
        yield Change(at, one.tier, one.instance_id, "in_flight", old.in_flight, new.in_flight)
