"""What became of notices: the control handler's log, which is the history of the fleet's drains."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from fleet.oncall.aws import Aws
from fleet.oncall.errors import AwsFailed, NotFound, bring_up
from fleet.oncall.tail import follow
from fleet.oncall.terminal import printable
from fleet.stack.naming import log_group

_KNOWN: Final = ("event", "ts", "instance_id", "tier", "role")
NoticeKey: TypeAlias = tuple[float, str, str | None, str]
_EVERY_S = 2.0
_OPENS_JSON = '{ $.event = "*" }'


@dataclass(frozen=True)
class NoticeEvent:
    """One line of the control handler. `at` in unix seconds; `fields` are the event's own."""

    at: float
    event: str
    instance_id: str | None
    tier: str | None
    fields: Mapping[str, Any]

    @property
    def key(self) -> NoticeKey:
        """Tells it from every other event."""
        return self.at, self.event, self.instance_id, json.dumps(self.fields, sort_keys=True)


def control_log_group(stack: str) -> str:
    return log_group(stack, "control")


def read_history(aws: Aws, since: float, until: float | None = None) -> list[NoticeEvent]:
    """Oldest first; `since` in unix seconds. Raises NotFound where nothing writes a history, OnCallError."""
    bounds = {"startTime": int(since * 1000)}
    if until is not None:
        bounds["endTime"] = int(until * 1000)
    group = control_log_group(aws.stack)
    try:
        lines = aws.pages(
            "logs.filter_log_events", "events", logGroupName=group, filterPattern=_OPENS_JSON, **bounds
        )
    except AwsFailed as exc:
        if exc.code != "ResourceNotFoundException":
            raise
        raise NotFound(f"there is no log group {group}", bring_up(aws.stack)) from exc
    events = [event for line in lines if (event := parse(line["message"])) is not None]
    return sorted(events, key=lambda event: event.at)


def follow_history(
    aws: Aws,
    since: float,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[list[NoticeEvent]]:
    """For ever: what is new, each event once. Raises OnCallError."""
    return follow(
        partial(read_history, aws), since, lambda event: event.key, _EVERY_S, clock=clock, pause=pause
    )


def describe(event: NoticeEvent) -> str:
    """One line for people."""
    about = f"{event.instance_id or ''}  {event.tier or ''}".strip()
    fields = "  ".join(f"{key}={_told(key, value)}" for key, value in event.fields.items())
    return "  ".join(part for part in (f"{event.event:20}", about, fields) if part)


def _told(key: str, value: object) -> str:
    if key == "deadline" and isinstance(value, int | float):
        return time.strftime("%H:%M:%S", time.gmtime(value))
    return f'"{printable(value)}"' if isinstance(value, str) and " " in value else printable(str(value))


def parse(line: str) -> NoticeEvent | None:
    """None for a line that is no event: the Lambda runtime writes some of its own."""
    try:
        said = json.loads(line)
        return NoticeEvent(
            at=float(said["ts"]),
            event=str(said["event"]),
            instance_id=said.get("instance_id"),
            tier=said.get("tier"),
            fields={key: value for key, value in said.items() if key not in _KNOWN},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
