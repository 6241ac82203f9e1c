"""What came of a drain that somebody waited for. Pure.

A request that ran on the node has finished there, was handed over and went on elsewhere, or was cut over:
cut without a word, handed over with nobody known to go on with it, or handed over because a person gave the
drain less time than AWS itself gives, which is not the drain that was rehearsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Ended = Literal["empty", "gone", "dead", "undrained", "not in time"]

NOTICE_S: Final = 120.0
"""Seconds of AWS that a spot notice gives (EC2 user guide, "Spot Instance interruption notices")."""
# What is lost of a granted time on the way of the request to the node is no reason to call it short.
_NEARLY: Final = 0.9
_WENT_WELL = ("running", "ok", "client_gone")


@dataclass(frozen=True)
class Observed:
    """All that was seen of one node's drain. Seconds are real ones, counted from the request."""

    instance_id: str
    tier: str
    role: str
    ended: Ended
    seconds: float
    at_first: int | None
    """Requests in flight when the drain was asked for."""
    left: int = 0
    """In flight at the last sight of it."""
    handed_over: int = 0
    handed_over_ids: tuple[str, ...] = ()
    cut: int = 0
    granted_s: float | None = None
    overdue: bool = False
    """It still had work after its deadline."""
    unseen: bool = False
    """It never answered here."""


@dataclass(frozen=True)
class Drained:
    observed: Observed
    became: Mapping[str, str]
    """Of each request that was handed over: what gateways say of it, `unknown` where they say nothing."""
    short: bool
    """It had less time than a spot notice gives."""
    let_go: str | None = None
    """Why the control handler let it go, where that was looked up."""

    @property
    def cut_over(self) -> dict[str, str]:
        """Request -> what became of it, for those that the drain is to blame for."""
        if self.short:
            return dict(self.became)
        return {one: what for one, what in self.became.items() if what not in _WENT_WELL}

    @property
    def resumed(self) -> int:
        return sum(what in _WENT_WELL for what in self.became.values())

    @property
    def uncounted(self) -> int:
        """Cut over, with no id to name: cut without a word, in flight when the node was last seen, or more
        than a node keeps ids of."""
        seen = self.observed
        more = max(0, seen.handed_over - len(seen.handed_over_ids)) if self.short else 0
        return seen.cut + more + (seen.left if seen.ended in ("gone", "dead") else 0)

    @property
    def ok(self) -> bool:
        seen = self.observed
        came_to_end = seen.ended in ("empty", "gone") and not seen.overdue
        if seen.unseen:
            return came_to_end and self.let_go == "empty"
        return came_to_end and not self.cut_over and not self.uncounted

    def as_json(self) -> dict[str, Any]:
        seen = self.observed
        return {
            "instance_id": seen.instance_id,
            "tier": seen.tier,
            "ok": self.ok,
            "ended": seen.ended,
            "seconds": round(seen.seconds, 2),
            "in_flight_at_first": seen.at_first,
            "handed_over": seen.handed_over,
            "resumed": self.resumed,
            "overdue": seen.overdue,
            "cut_over": [{"request_id": one, "became": what} for one, what in self.cut_over.items()],
            "cut_over_unnamed": self.uncounted,
            "seen": not seen.unseen,
        }

    def __str__(self) -> str:
        seen = self.observed
        told = [f"{seen.instance_id}  {seen.tier}  {_ENDS[seen.ended]} after {seen.seconds:.1f} s"]
        if seen.at_first is not None:
            told.append(f"{seen.at_first} in flight at first")
        if seen.handed_over:
            told.append(f"{seen.handed_over} handed over, {self.resumed} of them went on elsewhere")
        if seen.unseen:
            why = f"it was let go: {self.let_go}" if self.let_go else "why it was let go is not known yet"
            told.append(f"it does not answer from here; {why}")
        if seen.overdue:
            told.append("later than its deadline")
        if self.cut_over or self.uncounted:
            told.append(f"{len(self.cut_over) + self.uncounted} cut over")
        return ", ".join(told)


_ENDS: Mapping[Ended, str] = {
    "empty": "empty",
    "gone": "gone",
    "dead": "died",
    "undrained": "serves again",
    "not in time": "not empty",
}


def judge(seen: Observed, moved: Mapping[str, str], time_scale: float, let_go: str | None = None) -> Drained:
    """`moved`: what all gateways say of requests that they went on with elsewhere."""
    short = seen.granted_s is not None and seen.granted_s < _NEARLY * NOTICE_S * time_scale
    became = {one: moved.get(one, "unknown") for one in seen.handed_over_ids}
    return Drained(seen, became, short, let_go)
