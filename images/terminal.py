"""What the commands of `images` share: options, questions, errors as exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from images.errors import (
    AwsRefused,
    AwsUnreachable,
    ChannelError,
    ImagesError,
    PlanRefused,
    RecipeError,
    RunError,
    WaitTimedOut,
)
from images.run import DEFAULT_STATE

if TYPE_CHECKING:
    from images.aws import Aws

ERROR, USAGE, AUTH, NOT_FOUND, CANCELLED, TIMED_OUT = 1, 2, 3, 6, 8, 9
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_AUTH_CODES = frozenset({"AuthFailure", "UnauthorizedOperation", "AccessDeniedException", "ExpiredToken"})
STATE_OPTION = click.option(
    "--state",
    default=DEFAULT_STATE,
    type=click.Path(file_okay=False, path_type=Path),
    show_default=True,
    help="Where runs keep their ledgers.",
)
STACK_OPTION = click.option(
    "--stack",
    envvar="GOLDENFLEET_STACK",
    default="dev",
    metavar="NAME",
    help="Whose channels; by default GOLDENFLEET_STACK, else dev.",
)
REGION_OPTION = click.option("--region", help="By default that of --settings, else AWS_REGION.")
SETTINGS_OPTION = click.option(
    "--settings",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML with the EC2 builder's settings: subnets, kms_key_id, copies, share_accounts, ...",
)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
DRY_RUN_OPTION = click.option("--dry-run", is_flag=True, help="Check and tell; change nothing.")


def environment_region() -> str:
    import boto3

    # boto3 itself reads only AWS_DEFAULT_REGION.
    found = os.environ.get("AWS_REGION") or boto3.Session().region_name
    if found is None:
        raise AwsUnreachable("no AWS region is set", "give --region, or set AWS_DEFAULT_REGION")
    return str(found)


def aws(region: str | None) -> Aws:
    """`region`'s, or that of the environment. Raises AwsUnreachable."""
    from images.aws import Aws

    return Aws(region or environment_region())


def confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this changes something and there is no terminal to ask: give --yes")
    if not click.confirm(question, err=True):
        sys.exit(CANCELLED)


class Terminated(KeyboardInterrupt):
    """SIGTERM. Whoever cleans up after Ctrl-C does so after this, without knowing of it."""


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM does what Ctrl-C does, a second one what a second Ctrl-C does. In the main thread."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def told_plainly() -> Iterator[None]:
    """An error of ours is a message, a hint and an exit code, never a traceback."""
    try:
        yield
    except ImagesError as error:
        click.echo(f"goldenfleet: {error.message}", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
        sys.exit(_exit_code(error))
    except KeyboardInterrupt as stop:
        click.echo("goldenfleet: stopped; what the run had made is removed", err=True)
        sys.exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED)


def _exit_code(error: ImagesError) -> int:
    if isinstance(error, RecipeError | PlanRefused):
        return USAGE
    if isinstance(error, AwsRefused) and error.code in _AUTH_CODES:
        return AUTH
    if isinstance(error, RunError | ChannelError):
        return NOT_FOUND
    return TIMED_OUT if isinstance(error, WaitTimedOut) else ERROR
