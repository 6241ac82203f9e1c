"""Nodes that were given up before they were ever ready: what a bad image looks like from outside. Pure.

Auto Scaling looks at a balancer's health checks once the grace period is over, which begins when an instance
is in service ("Set the health check grace period", user guide). A node that it ends for them soon after was
never ready; one that was, and died, has as a rule lived for longer. Spot nodes that are taken away are none
of these: they are detached, or end by EC2's own health check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

_LAUNCHING: Final = re.compile(r"Launching a new EC2 instance: (\S+)")
_TERMINATING: Final = re.compile(r"Terminating EC2 instance: (\S+)")
# "Troubleshoot unhealthy instances" (user guide); and a launch hook that nobody completed, as in a warm pool.
_CAUSES: Final = ("elb system health check failure", "lifecycle action was abandoned")

_LATE_S: Final = 180.0
"""After the grace period: the group's own look comes about once a minute, and draining takes its time."""

_NEWS_S: Final = 180.0
"""Looks come once a minute: none may be missed, and an alarm must not ring for ever."""


def ended_by_checks(
    activities: Sequence[Mapping[str, Any]], now: float, time_scale: float = 1.0
) -> dict[str, datetime]:
    """Node -> when its group ended it for its health checks, where that is news. `now` in unix seconds."""
    return {
        name: ended["StartTime"]
        for name, ended in _of(activities, _TERMINATING)
        if any(cause in str(ended.get("Cause", "")).lower() for cause in _CAUSES)
        and now - ended["StartTime"].timestamp() <= _NEWS_S * time_scale
    }


def launches(activities: Sequence[Mapping[str, Any]]) -> dict[str, datetime]:
    """Node -> when it went into service, or was launched where that is not known."""
    return {name: one.get("EndTime") or one["StartTime"] for name, one in _of(activities, _LAUNCHING)}


def given_up(
    ended: Mapping[str, datetime],
    launched: Mapping[str, datetime],
    grace_s: float,
    time_scale: float = 1.0,
) -> tuple[str, ...]:
    """Those that were never ready, of the nodes whose launch is known. `grace_s` is AWS's."""
    longest = (grace_s + _LATE_S) * time_scale
    return tuple(
        name for name, at in ended.items() if name in launched and _seconds(launched[name], at) <= longest
    )


def _of(
    activities: Sequence[Mapping[str, Any]], described: re.Pattern[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for activity in activities:
        if named := described.match(str(activity.get("Description", ""))):
            yield named[1], activity


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
