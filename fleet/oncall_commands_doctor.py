"""`goldenfleet doctor`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from fleet import options
from fleet.terminal import FAILED, told_plainly

if TYPE_CHECKING:
    from fleet.oncall.doctor import Finding

_STOPPED = "stopped"
_EXAMPLES = """\b
Examples:
  goldenfleet doctor --stack prod
  goldenfleet doctor --rehearsal --json | jq '.findings[] | select(.level != "ok")'

\b
Exit codes: 0 nothing is wrong (there may be warnings), 1 something is, or it failed, 2 it is not
clear which stack, 3 AWS refuses the credentials, 6 there is no such stack or rehearsal, 130 Ctrl-C.
"""
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(epilog=_EXAMPLES)
@options.stack_there
@options.rehearsal_kept
@click.option("--all", "everything", is_flag=True, help="What is well, too.")
@options.as_json
def doctor(stack: str | None, rehearsal: bool, everything: bool, as_json: bool) -> None:
    """Look for what is wrong: credentials, rules, queues, control, alarms, capacity, images, nodes."""
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall.aws import connect
        from fleet.oncall.doctor import diagnose

        aws = connect(stack, rehearsal=rehearsal)
        found = diagnose(aws)
        wrong = any(finding.level == "fail" for finding in found)
        if as_json:
            told = {"stack": aws.stack, "ok": not wrong, "findings": [one.as_json() for one in found]}
            click.echo(json.dumps(told, indent=2))
        else:
            _show(found, everything=everything)
    sys.exit(FAILED if wrong else 0)


def _show(found: list[Finding], *, everything: bool) -> None:
    from rich.text import Text

    from fleet.oncall.terminal import out

    console = out()
    for finding in found:
        if finding.level == "ok" and not everything:
            continue
        console.print(
            Text.assemble((f"{finding.level:5}", _STYLES[finding.level]), f"{finding.check}: {finding.what}")
        )
        for line in (finding.means, f"-> {finding.do}" if finding.do else ""):
            if line:
                console.print(Text(f"     {line}"))
    counts = {level: sum(one.level == level for one in found) for level in _STYLES}
    console.print(Text(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures"))
