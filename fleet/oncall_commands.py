"""`goldenfleet status`, `watch` and `notices`: looking, which changes nothing."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet import options
from fleet.terminal import FAILED, told_plainly

if TYPE_CHECKING:
    from fleet.oncall.aws import Aws
    from fleet.oncall.history import NoticeEvent
    from fleet.oncall.snapshot import Snapshot

_STOPPED = "stopped; the fleet goes on as it is"
_CODES = """\b
Exit codes: 0 done, 1 it failed, 2 it cannot be done as asked, 3 AWS refuses the credentials,
6 there is no such stack or rehearsal, 130 Ctrl-C, 143 SIGTERM.
"""
_STATUS = f"""\b
Examples:
  goldenfleet status --stack prod
  goldenfleet status --rehearsal --json | jq '.nodes[] | select(.state != "serving")'
  goldenfleet status --stack prod --watch

{_CODES}"""
_WATCH = """\b
Examples:
  goldenfleet watch --stack prod
  goldenfleet watch i-0123abcd --stack prod
  goldenfleet watch --stack prod --json >> changes.jsonl

\b
With NODEs it ends when each of them is empty or gone, with the exit codes of `drain --wait`:
0 all that ran on them finished or went on elsewhere, 4 something was cut over, 9 not in time.
Otherwise it ends by Ctrl-C (130) or SIGTERM (143); 1, 2, 3 and 6 as for `status`.
"""
_NOTICES = f"""\b
Examples:
  goldenfleet notices --stack prod --since 6h
  goldenfleet notices --stack prod --follow
  goldenfleet notices --rehearsal --json | jq 'select(.event == "drain.requested")'

{_CODES}"""


@click.command(epilog=_STATUS)
@options.stack_there
@options.rehearsal_kept
@click.option("--watch", "watching", is_flag=True, help="Look again and again, as `watch` does.")
@options.as_json
def status(stack: str | None, rehearsal: bool, watching: bool, as_json: bool) -> None:
    """Show the fleet: tiers, nodes, what they do, and which of them go."""
    if watching:
        _watch(stack, rehearsal=rehearsal, every_s=_EVERY_S, as_json=as_json)
        return
    with told_plainly(FAILED, _STOPPED):
        # Imported here, as in every command: boto3 takes long enough to be felt in --help.
        from fleet.oncall import shown
        from fleet.oncall.aws import connect
        from fleet.oncall.snapshot import load_snapshot
        from fleet.oncall.terminal import out

        aws = connect(stack, rehearsal=rehearsal)
        snapshot = load_snapshot(aws)
        if as_json:
            click.echo(json.dumps(shown.as_json(snapshot, aws.region), indent=2))
        else:
            out().print(shown.describe(snapshot, aws.region))


_EVERY_S = 2.0
_OTHER_LINES = 8  # of `watch`, around its tables


@click.command(epilog=_WATCH)
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@options.stack_there
@options.rehearsal_kept
@click.option(
    "--every",
    "every_s",
    default=_EVERY_S,
    type=click.FloatRange(0.2, 3600),
    show_default=True,
    help="Seconds from one look to the next.",
)
@options.as_json
def watch(nodes: tuple[str, ...], stack: str | None, rehearsal: bool, every_s: float, as_json: bool) -> None:
    """Watch the fleet change, or NODEs until they are empty.

    On a terminal the table of `status`, refreshed in place; elsewhere a line for each change, with --json an
    object.
    """
    if not nodes:
        _watch(stack, rehearsal=rehearsal, every_s=every_s, as_json=as_json)
        return
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall.aws import connect
        from fleet.oncall.snapshot import load_snapshot
        from fleet.oncall.targets import resolve
        from fleet.oncall.waiting import wait_for

        aws = connect(stack, rehearsal=rehearsal)
        # One that went in the meantime has come to the end that is waited for.
        snapshot = load_snapshot(aws, ended=True)
        meant = resolve(snapshot.nodes, nodes)
        code = wait_for(aws, meant, snapshot.nodes, time.time(), as_json=as_json)
    sys.exit(code)


def _watch(stack: str | None, *, rehearsal: bool, every_s: float, as_json: bool) -> None:
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall.aws import connect
        from fleet.oncall.terminal import detaching, out

        console = out()
        aws = connect(stack, rehearsal=rehearsal)
        with detaching(f"stopped looking; the fleet goes on. To look again: goldenfleet watch {aws.flags}"):
            if console.is_terminal and not console.is_dumb_terminal and not as_json:
                _refresh(aws, every_s)
            else:
                _tell_changes(aws, every_s, as_json=as_json)


def _refresh(aws: Aws, every_s: float) -> None:
    from rich.live import Live

    from fleet.oncall.shown import describe
    from fleet.oncall.snapshot import load_snapshot
    from fleet.oncall.terminal import LookingOn, out

    looking = LookingOn()
    with Live(console=out(), auto_refresh=False, screen=False) as live:
        while True:
            with looking.on():
                snapshot = load_snapshot(aws)
                most = live.console.height - len(snapshot.tiers) - _OTHER_LINES
                live.update(describe(snapshot, aws.region, most), refresh=True)
            time.sleep(every_s)


def _tell_changes(aws: Aws, every_s: float, *, as_json: bool) -> None:
    from fleet.oncall.changes import changes
    from fleet.oncall.snapshot import Snapshot, load_snapshot
    from fleet.oncall.terminal import LookingOn

    looking = LookingOn()
    # From nothing: the first look tells everything that there is.
    before: Snapshot = Snapshot(0.0, aws.stack, (), ())
    while True:
        with looking.on():
            now = load_snapshot(aws)
            for change in changes(before, now):
                told = json.dumps(change.as_json()) if as_json else f"{_clock(change.at)}  {change}"
                click.echo(told)
            sys.stdout.flush()
            before = now
        time.sleep(every_s)


@click.command(epilog=_NOTICES)
@options.stack_there
@options.rehearsal_kept
@click.option("--since", default="1h", show_default=True, metavar="AGO", help="Such as 90s, 15m, 1h, 2d.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@options.as_json
def notices(stack: str | None, rehearsal: bool, since: str, follow: bool, as_json: bool) -> None:
    """Show what the control handler saw and did: notices, drains, replacements, fallback."""
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall.ago import ago
        from fleet.oncall.aws import connect
        from fleet.oncall.history import follow_history, read_history
        from fleet.oncall.terminal import detaching, say

        began = ago(since, time.time())
        aws = connect(stack, rehearsal=rehearsal)
        if not follow:
            events = read_history(aws, began)
            _tell_events(events, as_json=as_json)
            if not events:
                say(f"control saw and did nothing in the last {since}")
            return
        with detaching(f"stopped looking; the fleet goes on. To go on: goldenfleet notices -f {aws.flags}"):
            for events in follow_history(aws, began):
                _tell_events(events, as_json=as_json)


def _tell_events(events: list[NoticeEvent], *, as_json: bool) -> None:
    from fleet.oncall.history import describe

    for event in events:
        if as_json:
            click.echo(json.dumps(_as_json(event)))
        else:
            click.echo(f"{_clock(event.at)}  {describe(event)}")
    sys.stdout.flush()


def _as_json(event: NoticeEvent) -> dict[str, Any]:
    own = {"at": event.at, "event": event.event, "instance_id": event.instance_id, "tier": event.tier}
    return {**own, "fields": dict(event.fields)}


def _clock(at: float) -> str:
    """UTC, as in AWS's console and in logs."""
    return time.strftime("%H:%M:%S", time.gmtime(at))
