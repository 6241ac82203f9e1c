"""`goldenfleet rollout`: what a new image's way to the nodes is like, and how to stop it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fleet import options
from fleet.terminal import FAILED, told_plainly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.oncall.aws import Aws
    from fleet.rollouts.acting import Act
    from fleet.rollouts.reading import RolloutView

_STOPPED = "stopped; rollouts go on as they are"
_CODES = """0 done (with --wait: ended as wished), 1 it failed or came to nothing,
2 it cannot be done as asked, was not confirmed or nobody was there to ask, 3 AWS refuses the credentials,
4 to some tiers only (with --wait: some ended as wished),
6 no such stack or tier, or nothing to do it to, 9 with --wait: not over in time,
130 Ctrl-C and 143 SIGTERM: rollouts go on.
"""
_STATUS = f"""\b
Examples:
  goldenfleet rollout status --stack prod
  goldenfleet rollout status llama --stack prod --wait
  goldenfleet rollout status --rehearsal --json | jq '.rollouts[] | {{tier, running}}'

\b
Exit codes: {_CODES}"""
_CANCEL = f"""\b
Examples:
  goldenfleet rollout cancel --stack prod
  goldenfleet rollout cancel llama --stack prod --dry-run

\b
Exit codes: {_CODES}"""
_ROLLBACK = f"""\b
Examples:
  goldenfleet rollout rollback --stack prod
  goldenfleet rollout rollback llama --stack prod --yes --wait

\b
Exit codes: {_CODES}"""
_RETRY = f"""\b
Examples:
  goldenfleet rollout retry llama --stack prod --wait

\b
Exit codes: {_CODES}"""


@click.group()
def rollout() -> None:
    """Watch, cancel or roll back what `up` rolls out: new images, and whatever else tiers launch."""


_tiers = click.argument("tiers", nargs=-1, metavar="[TIER]...")
_wait = click.option("--wait", is_flag=True, help="Until no rollout of these tiers runs.")
_timeout = click.option(
    "--timeout",
    "timeout_s",
    default=4 * 3600.0,
    type=click.FloatRange(1),
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits.",
)


@rollout.command(epilog=_STATUS)
@_tiers
@options.stack_there
@options.rehearsal_kept
@_wait
@_timeout
@options.as_json
def status(tiers: tuple[str, ...], **asked: Any) -> None:
    """Show each TIER's rollout: how far, from what to what, its checkpoints and alarms; by default all."""
    with told_plainly(FAILED, _STOPPED):
        # Imported here, as in every command: boto3 takes long enough to be felt in --help.
        from fleet.oncall.aws import connect
        from fleet.rollouts.acting import exit_code, named
        from fleet.rollouts.reading import load_rollouts

        aws = connect(asked["stack"], rehearsal=asked["rehearsal"])
        views = named(load_rollouts(aws), tiers)
        code = 0
        if asked["wait"]:
            views = _waited(aws, tiers, asked["timeout_s"])
            code = exit_code("status", views)
        _show(aws, views, as_json=asked["as_json"])
    sys.exit(code)


def _changing(command: Callable[..., None]) -> Callable[..., None]:
    wanted = (
        _tiers,
        options.stack_there,
        options.rehearsal_kept,
        _wait,
        _timeout,
        options.dry_run,
        options.yes,
        options.as_json,
    )
    for option in reversed(wanted):
        command = option(command)
    return command


@rollout.command(epilog=_CANCEL)
@_changing
def cancel(tiers: tuple[str, ...], **asked: Any) -> None:
    """Stop rollouts where they are: some nodes stay new, and new ones boot what the tier launched before."""
    _act("cancel", "Cancel", tiers, asked)


@rollout.command(epilog=_ROLLBACK)
@_changing
def rollback(tiers: tuple[str, ...], **asked: Any) -> None:
    """Undo rollouts that run, all that they have replaced. One that is over goes back by another image."""
    _act("rollback", "Roll back", tiers, asked)


@rollout.command(epilog=_RETRY)
@_changing
def retry(tiers: tuple[str, ...], **asked: Any) -> None:
    """Begin rollouts again that came to nothing, as they were: `up` does not, for the stack is unchanged."""
    _act("retry", "Try again", tiers, asked)


def _act(act: Act, verb: str, tiers: tuple[str, ...], asked: dict[str, Any]) -> None:
    with told_plainly(FAILED, _STOPPED):
        from fleet.oncall.aws import connect
        from fleet.oncall.terminal import SOME_FAILED, confirm, say
        from fleet.rollouts import acting
        from fleet.rollouts.reading import load_rollouts

        aws = connect(asked["stack"], rehearsal=asked["rehearsal"])
        wanted = acting.meant(act, load_rollouts(aws), tiers, aws.stack)
        plan = {view.tier: acting.plan(act, view) for view in wanted}
        for line in plan.values():
            say(line)
        if asked["dry_run"]:
            _tell({"dry_run": True, "plan": plan}, as_json=asked["as_json"])
            return
        confirm(f"{verb} {', '.join(plan)}?", yes=asked["yes"])
        begun, failed = acting.do_all(aws, act, wanted)
        for tier, why in failed.items():
            say(f"goldenfleet: {tier}: {why}")
        code = SOME_FAILED if failed else 0
        if asked["wait"]:
            views = _waited(aws, tuple(begun), asked["timeout_s"])
            _show(aws, views, as_json=asked["as_json"])
            code = code or acting.exit_code(act, views)
        else:
            _tell({"refreshes": begun, "failed": failed}, as_json=asked["as_json"])
            say(f"asked for. To follow it: goldenfleet rollout status --wait {aws.flags}")
    sys.exit(code)


def _waited(aws: Aws, tiers: tuple[str, ...], timeout_s: float) -> list[RolloutView]:
    from fleet.oncall.terminal import detaching, say
    from fleet.rollouts.acting import Waiting

    again = f"rollouts go on. To wait again: goldenfleet rollout status --wait {aws.flags}"
    with detaching(again):
        return Waiting(timeout_s).until_over(aws, tiers, say)


def _show(aws: Aws, views: Sequence[RolloutView], *, as_json: bool) -> None:
    from fleet.rollouts.words import describe

    if as_json:
        told = {"stack": aws.stack, "rollouts": [view.as_json() for view in views]}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(describe(views, time.time()))
    sys.stdout.flush()


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told, indent=2))
