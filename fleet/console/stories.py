"""What control's log says, in words, and as one story for each node that had a notice. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fleet.oncall.history import NoticeEvent

Kind = Literal["notice", "drain", "left", "done", "failed", "other"]

_MOST_STORIES = 60
# A node drains once; what comes so long after the last word is another drain of it.
_APART_S = 1800.0


@dataclass(frozen=True)
class Entry:
    """An event of the log with the number that the console gave it, which rises."""

    number: int
    event: NoticeEvent


def _field(event: NoticeEvent, name: str) -> str:
    return str(event.fields.get(name) or "")


def _because(before: str, name: str) -> Callable[[NoticeEvent], str]:
    return lambda event: f"{before}: {_field(event, name)}" if _field(event, name) else before


# Kinds of notices: fleet/control/notices.py. What is here is no word that a node will go.
_NO_NOTICE = ("state-change", "undrain-request")
_NOTICES = {
    "drain-request": "a person asked to drain it",
    "maintenance": "AWS plans maintenance of it",
    "rebalance": "AWS thinks an interruption likely",
    "spot-interruption": "spot interruption",
    "state-change": "its state changed",
    "terminate": "its group lets it go",
    "undrain-request": "a person asked to undrain it",
}


def _notice(event: NoticeEvent) -> str:
    kind, reason, by = (_field(event, name) for name in ("kind", "reason", "by"))
    words = _NOTICES.get(kind, kind) or "notice"
    return words + (f", {by}" if by else "") + (f": {reason}" if reason else "")


def _fallback(event: NoticeEvent) -> str:
    before, after = _field(event, "base_before"), _field(event, "base_after")
    return _because(f"on-demand base of {event.tier} {before or '?'} to {after or '?'}", "why")(event)


_WORDS: Mapping[str, tuple[Kind, Callable[[NoticeEvent], str]]] = {
    "drain.requested": ("drain", _because("told to drain", "reason")),
    "fallback.decided": ("other", _fallback),
    "fallback.failed": ("failed", _because("fallback could not decide", "error")),
    "hook.completed": ("done", _because("let go", "reason")),
    "instance.detached": ("left", lambda _: "left its group, a replacement launches"),
    "instance.ended": ("done", _because("is gone", "state")),
    "instance.in_standby": ("left", lambda _: "stands by, a replacement launches"),
    "instance.retired": ("done", lambda _: "empty, and given back"),
    "instance.returned": ("other", lambda _: "is back in its group"),
    "nodes.given_up": (
        "failed",
        lambda event: f"{_field(event, 'count')} nodes of {event.tier} were ended, which were never ready",
    ),
    "node.undrained": ("other", lambda _: "serves again"),
    "notice.dropped": ("other", _because("notice dropped", "reason")),
    "notice.failed": ("failed", _because("notice could not be followed", "error")),
    "notice.seen": ("notice", _notice),
    "notice.waits": ("other", lambda _: "stays until its tier can spare it: its maintenance is far off"),
    "queue.failed": ("failed", _because("the notice queue does not answer", "error")),
    "rollout.cancelled": (
        "other",
        lambda event: _because(f"the rollout of {event.tier} is cancelled", "why")(event),
    ),
    "target.deregistered": ("left", lambda _: "left the load balancer"),
    "undrain.refused": ("failed", _because("cannot serve again", "reason")),
}


def kind_of(event: NoticeEvent) -> Kind:
    if event.event == "notice.seen" and event.fields.get("kind") in _NO_NOTICE:
        return "other"
    return _WORDS[event.event][0] if event.event in _WORDS else "other"


def words_of(event: NoticeEvent) -> str:
    if event.event in _WORDS:
        return _WORDS[event.event][1](event)
    return _because(event.event.replace(".", " "), "reason")(event)


def event_of(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "number": entry.number,
        "at": event.at,
        "instance_id": event.instance_id or "",
        "tier": event.tier or "",
        "kind": kind_of(event),
        "words": words_of(event),
    }


def stories(entries: Iterable[Entry], living: Collection[str]) -> list[dict[str, Any]]:
    """Newest first. `living`: instances that there still are, whose stories go on."""
    told: dict[str, list[list[NoticeEvent]]] = {}
    for entry in sorted(entries, key=lambda entry: entry.event.at):
        event = entry.event
        if not event.instance_id or event.event == "notice.dropped":
            continue
        of_node = told.setdefault(event.instance_id, [])
        if not of_node or event.at - of_node[-1][-1].at > _APART_S:
            of_node.append([])
        of_node[-1].append(event)
    found = [_story(events, living) for of_node in told.values() for events in of_node]
    found.sort(key=lambda story: -float(story["began"]))
    return found[:_MOST_STORIES]


def _story(events: list[NoticeEvent], living: Collection[str]) -> dict[str, Any]:
    deadlines = [at for event in events if isinstance(at := event.fields.get("deadline"), int | float)]
    first = events[0]
    tier = next((event.tier for event in events if event.tier), None)
    return {
        "id": first.instance_id,
        "label": f"{(first.instance_id or '')[:10]}… {tier or ''}".strip(),
        "began": first.at,
        # A later notice can only bring the deadline forward.
        "deadline": min(deadlines, default=None),
        "ended": _ended(events, living, deadlines),
        "marks": [{"at": event.at, "kind": kind_of(event), "words": words_of(event)} for event in events],
    }


def _ended(events: list[NoticeEvent], living: Collection[str], deadlines: list[float]) -> float | None:
    let_go = [event.at for event in events if kind_of(event) == "done"]
    if let_go:
        return let_go[-1]
    if events[0].instance_id in living:
        return None
    return max(events[-1].at, min(deadlines, default=0.0))
