"""`goldenfleet logs`, `connect` and `interrupt`: one node."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from fleet import options
from fleet.terminal import FAILED, told_plainly

if TYPE_CHECKING:
    from fleet.oncall.aws import Aws
    from fleet.oncall.lines import Line
    from fleet.oncall.snapshot import NodeView

_STOPPED = "stopped; the node goes on as it is"
_CODES = """\b
Exit codes: 0 done, 1 it failed, 2 ambiguous or it cannot be done as asked, 3 AWS refuses the credentials,
6 no such node, log or stack, 130 Ctrl-C, 143 SIGTERM.
"""
_LOGS = f"""\b
Examples:
  goldenfleet logs i-0123abcd --stack prod --since 15m
  goldenfleet logs 127.0.16.4 --rehearsal --follow
  goldenfleet logs i-0123 --json | jq 'select(.line.event == "request.ended") | .line.outcome'

{_CODES}"""
_CONNECT = f"""\b
Examples:
  goldenfleet connect i-0123abcd --stack prod
  goldenfleet connect 127.0.16.4 --rehearsal

{_CODES}"""
_INTERRUPT = """\b
Examples:
  goldenfleet interrupt i-0123abcd --stack stage
  goldenfleet interrupt i-0123abcd --role-arn arn:aws:iam::123456789012:role/fis --yes
  goldenfleet interrupt 127.0.16.4 --rehearsal --yes

\b
Exit codes: 0 the notices are sent, 1 it failed, 2 no spot node, or nobody there to ask, 3 AWS refuses
the credentials, 6 no such node or stack, 8 not confirmed, 130 Ctrl-C.
"""


@click.command(epilog=_LOGS)
@click.argument("node")
@options.stack_there
@options.rehearsal_kept
@click.option("--since", default="10m", show_default=True, metavar="AGO", help="Such as 90s, 15m, 1h, 2d.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@options.as_json
def logs(node: str, stack: str | None, rehearsal: bool, since: str, follow: bool, as_json: bool) -> None:
    """Show the log of NODE: an instance id or its beginning, a private address or a Name tag."""
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall import nodelogs
        from fleet.oncall.ago import ago
        from fleet.oncall.terminal import detaching, say

        began = ago(since, time.time())
        aws, meant = _node(node, stack, rehearsal=rehearsal, ended=True)
        if not follow:
            lines = nodelogs.read(aws, meant, began)
            _tell(lines, as_json=as_json)
            if not lines:
                say(f"{meant.instance_id} logged nothing in the last {since}")
            return
        again = f"goldenfleet logs -f {meant.instance_id} {aws.flags}"
        with detaching(f"stopped looking; the node goes on. To go on: {again}"):
            for lines in nodelogs.follow(aws, meant, began):
                _tell(lines, as_json=as_json)


@click.command(epilog=_CONNECT)
@click.argument("node")
@options.stack_there
@options.rehearsal_kept
def connect(node: str, stack: str | None, rehearsal: bool) -> None:
    """Open a shell on NODE by Session Manager; in a rehearsal, in the folder of its process."""
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall.connecting import become, session
        from fleet.oncall.terminal import say

        aws, meant = _node(node, stack, rehearsal=rehearsal)
        wanted = session(aws, meant)
        say(wanted.told)
        sys.stdout.flush()
        become(wanted)


@click.command(epilog=_INTERRUPT)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@options.stack_there
@options.rehearsal_kept
@click.option(
    "--role-arn",
    envvar="GOLDENFLEET_FIS_ROLE",
    metavar="ARN",
    help="What the Fault Injection Service acts as; by default gf-STACK-interrupt, which the stack makes "
    "where its setting security.interruptions is true.",
)
@options.dry_run
@options.yes
@options.as_json
def interrupt(
    nodes: tuple[str, ...],
    stack: str | None,
    rehearsal: bool,
    role_arn: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Have AWS interrupt spot NODEs, as a test: a notice now, and in two minutes they are taken away.

    By the Fault Injection Service. Nothing can call it back.
    """
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall import interrupts
        from fleet.oncall.aws import connect as connect_to
        from fleet.oncall.snapshot import load_snapshot
        from fleet.oncall.targets import listed, resolve
        from fleet.oncall.terminal import confirm, detaching, say

        aws = connect_to(stack, rehearsal=rehearsal)
        meant = resolve(load_snapshot(aws).nodes, nodes)
        interrupts.check(meant)
        say(f"AWS will take away, {120 * aws.time_scale:g} s after their notice:\n{listed(meant)}")
        ids = [node.instance_id for node in meant]
        if dry_run:
            _result({"dry_run": True, "nodes": ids}, as_json=as_json)
            return
        confirm("Interrupt? Nothing can call it back.", yes=yes)
        again = f"goldenfleet watch {' '.join(ids)} {aws.flags}"
        with detaching(f"the experiment may have begun, and then nothing calls it back: {again}"):
            experiment = interrupts.interrupt(aws, meant, role_arn)
        _result({"experiment": experiment, "nodes": ids}, as_json=as_json)
        say(f"interrupted by experiment {experiment}; {again}")


def _node(name: str, stack: str | None, *, rehearsal: bool, ended: bool = False) -> tuple[Aws, NodeView]:
    from fleet.oncall.aws import connect as connect_to
    from fleet.oncall.snapshot import load_snapshot
    from fleet.oncall.targets import resolve

    aws = connect_to(stack, rehearsal=rehearsal)
    [meant] = resolve(load_snapshot(aws, ended=ended).nodes, [name])
    return aws, meant


def _tell(lines: list[Line], *, as_json: bool) -> None:
    from fleet.oncall.terminal import printable

    for line in lines:
        click.echo(json.dumps(line.as_json()) if as_json else printable(line.text))
    sys.stdout.flush()


def _result(result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
