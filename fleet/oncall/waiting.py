"""`drain --wait` and `watch NODE`: says how the work on nodes that drain goes down, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from fleet.oncall.aws import Aws
from fleet.oncall.errors import OnCallError
from fleet.oncall.following import Followed, Follower
from fleet.oncall.outcome import Drained
from fleet.oncall.snapshot import NodeView
from fleet.oncall.terminal import SOME_FAILED, TIMED_OUT, detaching, say

_LISTED = 20  # requests of a node that are named to people; --json has all


def wait_for(
    aws: Aws,
    nodes: Sequence[NodeView],
    fleet: Sequence[NodeView],
    asked_at: float,
    *,
    granted_s: float | None = None,
    as_json: bool = False,
) -> int:
    """Until all are empty or gone; gives the exit code. Raises OnCallError."""
    names = " ".join(node.instance_id for node in nodes)
    again = f"the drain goes on without you. To follow it again: goldenfleet watch {names} {aws.flags}"
    follower = Follower(aws, nodes, asked_at, granted_s)
    with detaching(again):
        try:
            _follow(follower, asked_at)
            results = follower.results([node for node in fleet if node.role == "gateway"])
        except OnCallError:
            say(f"goldenfleet: {again}")
            raise
    _tell(results, as_json=as_json)
    return exit_code(results)


def exit_code(results: Iterable[Drained]) -> int:
    found = list(results)
    if all(one.ok for one in found):
        return 0
    return TIMED_OUT if any(one.observed.ended == "not in time" for one in found) else SOME_FAILED


def told_as_json(results: Iterable[Drained]) -> dict[str, Any]:
    found = list(results)
    return {"ok": all(one.ok for one in found), "nodes": [one.as_json() for one in found]}


def _follow(follower: Follower, asked_at: float) -> None:
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as live:
            for followed in follower.looks():
                _show(live, followed)
        return
    told: dict[str, str] = {}
    for followed in follower.looks():
        for one in followed:
            line = _line(one)
            if told.get(one.node.instance_id) != line:
                told[one.node.instance_id] = line
                say(f"{time.time() - asked_at:6.1f} s  {one.node.instance_id}  {line}")


def _show(live: Status, followed: Sequence[Followed]) -> None:
    live.update("\n".join(f"{one.node.instance_id}  {_line(one)}{_left(one)}" for one in followed))


def _line(one: Followed) -> str:
    if one.ended is not None and one.ended != "empty":
        return one.ended
    if one.said.condition != "answers":
        return "does not answer"
    if not one.drained and one.said.phase == "serving":
        return f"still serving, {int(one.said.number('in_flight') or 0)} in flight"
    return f"{one.said.phase}, {int(one.said.number('in_flight') or 0)} in flight"


def _left(one: Followed) -> str:
    deadline = one.said.number("deadline")
    return "" if deadline is None or one.ended else f", {max(0.0, deadline - time.time()):.0f} s left"


def _tell(results: Sequence[Drained], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told_as_json(results), indent=2))
        return
    for one in results:
        click.echo(str(one))
        for line in _cut_over(one):
            click.echo(f"  {line}")
    for hint in sorted({hint for one in results for hint in _hints(one)}):
        say(hint)


def _cut_over(one: Drained) -> Iterable[str]:
    listed = list(one.cut_over.items())
    for request, became in listed[:_LISTED]:
        yield f"{request}  cut over, {_BECAME.get(became, f'then ended: {became}')}"
    more = len(listed) - _LISTED
    if more > 0:
        yield f"and {more} more (--json names them)"
    if one.uncounted:
        yield f"{one.uncounted} more, of which no id is known"


_BECAME = {
    "running": "goes on elsewhere",
    "ok": "finished elsewhere",
    "client_gone": "its client left",
    "unknown": "no gateway went on with it",
}


def _hints(one: Drained) -> Iterable[str]:
    seen = one.observed
    if one.short and one.became:
        yield "The deadline was shorter than a spot notice's: what it cut over counts, resumed or not."
    if seen.role == "gateway" and seen.handed_over:
        yield "Streams of a gateway are resumed by clients that use goldenfleet_client, and by no others."
    if seen.ended == "not in time":
        yield "It was not drained in time: goldenfleet doctor says whether the control handler works."
    if seen.ended == "dead":
        yield "Its process died: goldenfleet logs shows its last words."
