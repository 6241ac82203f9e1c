"""Notices out of queue messages: EventBridge's envelope, or the flat shape of a hook that targets SQS.

Only `detail` is read, never the ARN in `resources`, of which two shapes exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


@dataclass(frozen=True, slots=True)
class Interruption:
    """EC2 takes a spot instance back two minutes after `at` (unix seconds)."""

    instance_id: str
    at: float
    kind = "spot-interruption"


@dataclass(frozen=True, slots=True)
class Rebalance:
    """EC2 thinks an interruption likely; nobody is told to go."""

    instance_id: str
    at: float
    kind = "rebalance"


@dataclass(frozen=True, slots=True)
class Termination:
    """Auto Scaling takes the instance out and waits for its hook, which began at `at` (unix seconds)."""

    instance_id: str
    at: float
    group: str
    hook: str
    token: str | None
    kind = "terminate"


@dataclass(frozen=True, slots=True)
class NotANotice:
    """A message that asks for nothing, and why."""

    reason: str


Notice: TypeAlias = Interruption | Rebalance | Termination


def parse(body: str) -> Notice | NotANotice:
    """Never raises: a message that nobody can read must not come back for ever."""
    try:
        message = json.loads(body)
        return _envelope(message) if isinstance(message, dict) else NotANotice("no JSON object")
    except _Unreadable as exc:
        return NotANotice(str(exc))
    except (ValueError, RecursionError):
        return NotANotice("not JSON")


class _Unreadable(Exception):
    pass


def _envelope(message: Mapping[str, object]) -> Notice | NotANotice:
    if "detail-type" not in message:
        return _flat(message)
    detail, kind = message.get("detail"), message["detail-type"]
    if not isinstance(detail, Mapping):
        raise _Unreadable("an event without detail")
    if kind == "EC2 Spot Instance Interruption Warning":
        return Interruption(_text(detail, "instance-id"), _time(message, "time"))
    if kind == "EC2 Instance Rebalance Recommendation":
        return Rebalance(_text(detail, "instance-id"), _time(message, "time"))
    if kind == "EC2 Instance-terminate Lifecycle Action":
        return _termination(detail, _time(message, "time"))
    return NotANotice(f"not a notice: {kind}")


def _flat(message: Mapping[str, object]) -> Notice | NotANotice:
    if message.get("Event") == "autoscaling:TEST_NOTIFICATION":
        return NotANotice("the test message of a new hook")
    if message.get("LifecycleTransition") == TERMINATING:
        return _termination(message, _time(message, "Time"))
    return NotANotice("no event and no lifecycle action")


def _termination(detail: Mapping[str, object], at: float) -> Notice:
    return Termination(
        instance_id=_text(detail, "EC2InstanceId"),
        at=at,
        group=_text(detail, "AutoScalingGroupName"),
        hook=_text(detail, "LifecycleHookName"),
        token=_text(detail, "LifecycleActionToken") if detail.get("LifecycleActionToken") else None,
    )


def _text(holder: Mapping[str, object], name: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not value:
        raise _Unreadable(f"an event without {name}")
    return value


def _time(holder: Mapping[str, object], name: str) -> float:
    """Unix seconds. EventBridge rounds to whole seconds; a hook's own message has fractions."""
    try:
        moment = datetime.fromisoformat(_text(holder, name))
    except ValueError as exc:
        raise _Unreadable(f"a {name} that is no time") from exc
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
