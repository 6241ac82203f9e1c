"""Notices out of queue messages: EventBridge's envelope, or the flat shape of a hook that targets SQS.

Only `detail` is read, never the ARN in `resources`, of which two shapes exist. Shapes: EC2 user guide ("Spot
interruption notices", "Instance rebalance recommendations", "State-change events"), Auto Scaling user guide
("Lifecycle hook events"), Health user guide ("EventBridge schema"). A person's requests are ours.

What is read here goes into filters of Describe* calls that many notices share: an id with a wildcard would
find the whole account, and one that AWS refuses would fail the others with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias, TypeGuard

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
SOURCE: Final = "goldenfleet"
DRAIN_REQUEST: Final = "Goldenfleet Drain Request"
UNDRAIN_REQUEST: Final = "Goldenfleet Undrain Request"
# What a person writes is repeated in logs, and told to the node, which takes at most this many characters.
_LONGEST_REASON = 200
_LONGEST_NAME = 255  # of groups, hooks and the like
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{1,17}")
# The end of a version or an instance type, half a year ahead: it lists whatever is of that kind, again and
# again, replacements too (Health user guide, "Planned lifecycle events"). Who drained for it was never done.
_LIFECYCLE = "_PLANNED_LIFECYCLE_EVENT"


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
class Launch:
    """Auto Scaling holds the new instance back for its hook, which began at `at` (unix seconds)."""

    instance_id: str
    at: float
    group: str
    hook: str
    token: str | None
    kind = "launch"


@dataclass(frozen=True, slots=True)
class Maintenance:
    """AWS will stop, reboot or retire the instance at `begins` (unix seconds; None: it did not say)."""

    instance_id: str
    at: float
    code: str
    begins: float | None
    kind = "maintenance"


@dataclass(frozen=True, slots=True)
class StateChange:
    """EC2 says that the instance is now in `state`."""

    instance_id: str
    at: float
    state: str
    kind = "state-change"


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """A person wants the node gone, `deadline_s` seconds after `at` (None: as long as a spot notice)."""

    instance_id: str
    at: float
    reason: str
    by: str
    request: str
    deadline_s: float | None
    kind = "drain-request"


@dataclass(frozen=True, slots=True)
class UndrainRequest:
    """A person wants the node back."""

    instance_id: str
    at: float
    reason: str
    by: str
    request: str
    kind = "undrain-request"


@dataclass(frozen=True, slots=True)
class NotANotice:
    """A message that asks for nothing, and why."""

    reason: str


Leaving: TypeAlias = (
    Interruption | Rebalance | Termination | Maintenance | StateChange | DrainRequest | UndrainRequest
)
Notice: TypeAlias = Leaving | Launch


def parse(body: str, sent: float | None = None) -> tuple[Notice, ...] | NotANotice:
    """At least one notice; AWS Health names many instances in one event. `sent` is when the queue got the
    message, in unix seconds: a person's request counts from then, for a laptop's clock may be minutes off.

    Never raises: a message that nobody can read must not come back for ever.
    """
    try:
        message = json.loads(body)
        return _message(message, sent) if isinstance(message, dict) else NotANotice("no JSON object")
    except _Unreadable as exc:
        return NotANotice(str(exc))
    except (ValueError, RecursionError):
        return NotANotice("not JSON")


class _Unreadable(Exception):
    pass


def _message(message: Mapping[str, object], sent: float | None) -> tuple[Notice, ...] | NotANotice:
    if "detail-type" not in message:
        return _flat(message)
    detail, kind = message.get("detail"), message["detail-type"]
    if not isinstance(detail, Mapping):
        raise _Unreadable("an event without detail")
    at = _time(message, "time")
    match kind:
        case "EC2 Spot Instance Interruption Warning":
            return (Interruption(_instance(detail, "instance-id"), at),)
        case "EC2 Instance Rebalance Recommendation":
            return (Rebalance(_instance(detail, "instance-id"), at),)
        case "EC2 Instance-terminate Lifecycle Action":
            return (Termination(*_hooked(detail, at)),)
        case "EC2 Instance-launch Lifecycle Action":
            return (Launch(*_hooked(detail, at)),)
        case "EC2 Instance State-change Notification":
            return (StateChange(_instance(detail, "instance-id"), at, _text(detail, "state")),)
        case "AWS Health Event":
            return _maintenance(detail, at)
        case "Goldenfleet Drain Request" | "Goldenfleet Undrain Request":
            return (_asked_by_a_person(message, detail, at if sent is None else sent),)
    return NotANotice(f"not a notice: {kind}")


def _flat(message: Mapping[str, object]) -> tuple[Notice, ...] | NotANotice:
    if message.get("Event") == "autoscaling:TEST_NOTIFICATION":
        return NotANotice("the test message of a new hook")
    if message.get("LifecycleTransition") == TERMINATING:
        return (Termination(*_hooked(message, _time(message, "Time"))),)
    if message.get("LifecycleTransition") == LAUNCHING:
        return (Launch(*_hooked(message, _time(message, "Time"))),)
    return NotANotice("no event and no lifecycle action")


def _hooked(detail: Mapping[str, object], at: float) -> tuple[str, float, str, str, str | None]:
    """Instance, time, group, hook, token."""
    return (
        _instance(detail, "EC2InstanceId"),
        at,
        _text(detail, "AutoScalingGroupName"),
        _text(detail, "LifecycleHookName"),
        _text(detail, "LifecycleActionToken") if detail.get("LifecycleActionToken") else None,
    )


def _maintenance(detail: Mapping[str, object], at: float) -> tuple[Notice, ...] | NotANotice:
    """Of EC2's scheduled changes that are still to come."""
    if detail.get("service") != "EC2" or detail.get("eventTypeCategory") != "scheduledChange":
        return NotANotice("no scheduled change of EC2's")
    if detail.get("statusCode") == "closed":
        return NotANotice("the scheduled change is over")
    code, begins = _text(detail, "eventTypeCode"), _begins(detail.get("startTime"))
    if code.endswith(_LIFECYCLE):
        return NotANotice("a planned end of support, which is for people to plan")
    found = tuple(Maintenance(one, at, code, begins) for one in _affected(detail.get("affectedEntities")))
    return found or NotANotice("a scheduled change that names no instance")


def _affected(entities: object) -> list[str]:
    """Ids of instances that are still to be changed, each once."""
    listed = entities if isinstance(entities, list) else []
    named = [each for each in listed if isinstance(each, Mapping) and each.get("status") != "RESOLVED"]
    return list(dict.fromkeys(one for each in named if is_instance(one := each.get("entityValue"))))


def _begins(text: object) -> float | None:
    """Health writes times as mail does: Sat, 05 Jun 2027 15:10:09 GMT."""
    try:
        return _unix(parsedate_to_datetime(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def _asked_by_a_person(
    message: Mapping[str, object], detail: Mapping[str, object], at: float
) -> DrainRequest | UndrainRequest:
    if message.get("source") != SOURCE:
        raise _Unreadable("a request that is not ours")
    instance_id, request = _instance(detail, "instance-id"), _text(detail, "request")
    reason, by = (
        str(said)[:_LONGEST_REASON]
        for said in (detail.get("reason") or "no reason given", detail.get("by") or "?")
    )
    if message["detail-type"] == UNDRAIN_REQUEST:
        return UndrainRequest(instance_id, at, reason, by, request)
    seconds = detail.get("deadline-s")
    if seconds is None:
        return DrainRequest(instance_id, at, reason, by, request, None)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise _Unreadable("a deadline-s that is no number")
    if not math.isfinite(seconds) or seconds < 0:
        raise _Unreadable("a deadline-s that is no number of seconds")
    return DrainRequest(instance_id, at, reason, by, request, float(seconds))


def _text(holder: Mapping[str, object], name: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise _Unreadable(f"an event without {name}")
    return value


def _instance(holder: Mapping[str, object], name: str) -> str:
    value = holder.get(name)
    if not is_instance(value):
        raise _Unreadable(f"a {name} that is no instance's")
    return value


def is_instance(value: object) -> TypeGuard[str]:
    """Whether it is the id of one."""
    return isinstance(value, str) and _INSTANCE_ID.fullmatch(value) is not None


def _time(holder: Mapping[str, object], name: str) -> float:
    """Unix seconds. EventBridge rounds to whole seconds; a hook's own message has fractions."""
    try:
        return _unix(datetime.fromisoformat(_text(holder, name)))
    except (ValueError, OverflowError) as exc:
        raise _Unreadable(f"a {name} that is no time") from exc


def _unix(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
