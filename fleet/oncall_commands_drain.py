"""`goldenfleet drain` and `undrain`."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet import options
from fleet.control.drain import LONGEST_DRAIN_S
from fleet.terminal import FAILED, told_plainly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.oncall.aws import Aws
    from fleet.oncall.plans import Planned
    from fleet.oncall.snapshot import Snapshot

_STOPPED = "stopped; what was asked for already goes on"
_DRAIN = """\b
Examples:
  goldenfleet drain i-0123abcd -m "disk errors" --stack prod
  goldenfleet drain 10.0.16.4 10.0.32.7 -m "kernel update" --deadline 600 --wait --yes
  goldenfleet drain i-01 -m test --dry-run --rehearsal

\b
Exit codes: 0 asked for (with --wait: empty, and all that ran finished or went on elsewhere),
1 it failed, 2 ambiguous, or nobody there to ask, 3 AWS refuses the credentials, 4 with --wait:
something was cut over, 6 no such node or stack, 8 not confirmed, 9 with --wait: not empty in time,
130 Ctrl-C and 143 SIGTERM: the drain goes on.
"""
_UNDRAIN = """\b
Examples:
  goldenfleet undrain i-0123abcd -m "disk is fine" --stack prod
  goldenfleet undrain 127.0.16.4 -m test --rehearsal --yes --json

\b
Exit codes: 0 all serve again, 1 it failed, 2 ambiguous, or nobody there to ask, 3 AWS refuses the
credentials, 4 some cannot serve again, 6 no such node or stack, 8 not confirmed, 130 Ctrl-C.
"""


@click.command(epilog=_DRAIN)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@options.stack_there
@options.rehearsal_kept
@click.option("-m", "--message", "reason", required=True, help="Why; it is told to the node and in history.")
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(0, LONGEST_DRAIN_S),
    metavar="SECONDS",
    help="How long the nodes have; by default what a spot notice gives, 120.",
)
@click.option("--wait", is_flag=True, help="Follow the nodes until they are empty.")
@options.dry_run
@options.yes
@options.as_json
def drain(nodes: tuple[str, ...], deadline_s: float | None, **asked: Any) -> None:
    """Take NODEs out of service: no new requests, what runs finishes or goes on elsewhere, then replaced.

    NODE is an instance id or its beginning, a private address or a Name tag.
    """
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall import plans
        from fleet.oncall.aws import connect
        from fleet.oncall.outcome import NOTICE_S
        from fleet.oncall.snapshot import load_snapshot
        from fleet.oncall.targets import resolve

        aws = connect(asked["stack"], rehearsal=asked["rehearsal"])
        snapshot = load_snapshot(aws)
        meant = resolve(snapshot.nodes, nodes)
        granted_s = NOTICE_S * aws.time_scale if deadline_s is None else deadline_s
        planned = plans.to_drain(meant, granted_s)
        _show(planned, list(plans.warnings(snapshot, meant)), f"Drain, because {asked['reason']!r}:")
        if asked["dry_run"]:
            _tell({"dry_run": True, "plan": [one.as_json() for one in planned]}, as_json=asked["as_json"])
            return
        code = _drain(aws, snapshot, planned, deadline_s, asked)
    sys.exit(code)


def _drain(
    aws: Aws, snapshot: Snapshot, planned: Sequence[Planned], deadline_s: float | None, asked: dict[str, Any]
) -> int:
    from fleet.oncall.drains import request_drain
    from fleet.oncall.terminal import confirm, say
    from fleet.oncall.waiting import wait_for

    wanted = [one.node for one in planned if one.does]
    ids = [node.instance_id for node in wanted]
    asked_at = time.time()
    requests: dict[str, str] = {}
    if wanted:
        confirm(f"Drain {_count(wanted)}?", yes=asked["yes"])
        asked_at = time.time()
        requests = request_drain(aws, ids, asked["reason"], deadline_s)
    if asked["wait"]:
        say(f"{'asked for; ' if wanted else ''}waiting for {_count(planned)}")
        nodes = [one.node for one in planned]
        return wait_for(aws, nodes, snapshot.nodes, asked_at, granted_s=deadline_s, as_json=asked["as_json"])
    _tell({"requests": requests}, as_json=asked["as_json"])
    if ids:
        say(f"asked for. To follow it: goldenfleet watch {' '.join(ids)} {aws.flags}")
    return 0


@click.command(epilog=_UNDRAIN)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@options.stack_there
@options.rehearsal_kept
@click.option("-m", "--message", "reason", default="", help="Why; it is told in history.")
@options.dry_run
@options.yes
@options.as_json
def undrain(nodes: tuple[str, ...], **asked: Any) -> None:
    """Let NODEs that drain serve again, unless AWS itself takes them or they have been replaced.

    NODE is an instance id or its beginning, a private address or a Name tag.
    """
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall import plans
        from fleet.oncall.aws import connect
        from fleet.oncall.snapshot import load_snapshot
        from fleet.oncall.targets import resolve

        aws = connect(asked["stack"], rehearsal=asked["rehearsal"])
        snapshot = load_snapshot(aws)
        planned = plans.to_undrain(resolve(snapshot.nodes, nodes), snapshot.at)
        _show(planned, [], "Undrain:")
        if asked["dry_run"]:
            _tell({"dry_run": True, "plan": [one.as_json() for one in planned]}, as_json=asked["as_json"])
            return
        code = _undrain(aws, planned, asked)
    sys.exit(code)


def _undrain(aws: Aws, planned: Sequence[Planned], asked: dict[str, Any]) -> int:
    from fleet.oncall.answers import UNDRAINED, await_undrained
    from fleet.oncall.drains import request_undrain
    from fleet.oncall.terminal import SOME_FAILED, confirm, say

    wanted = [one.node for one in planned if one.does]
    answers = {one.node.instance_id: one.because for one in planned if not one.does}
    if wanted:
        confirm(f"Let {_count(wanted)} serve again?", yes=asked["yes"])
        ids, asked_at = [node.instance_id for node in wanted], time.time()
        request_undrain(aws, ids, asked["reason"])
        say("asked for; waiting for the control handler's answer")
        answers |= await_undrained(aws, ids, asked_at)
    fine = {one.node.instance_id for one in planned if one.wanted}
    refused = [one for one, answer in answers.items() if answer != UNDRAINED and one not in fine]
    told = [
        {"instance_id": one, "ok": one not in refused, "answer": answer} for one, answer in answers.items()
    ]
    _tell({"ok": not refused, "nodes": told}, as_json=asked["as_json"])
    if not asked["as_json"]:
        for one, answer in answers.items():
            click.echo(f"{one}  {answer}")
    return SOME_FAILED if refused else 0


def _show(planned: Sequence[Planned], warned: Sequence[str], title: str) -> None:
    from fleet.oncall.terminal import say

    say("\n".join([title, *map(str, planned), *(f"warning: {line}" for line in warned)]))


def _tell(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))


def _count(nodes: Sequence[object]) -> str:
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
