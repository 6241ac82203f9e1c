"""What commands have in common: plain errors, exit codes, and one Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import click

from fleet.errors import GoldenfleetError

FAILED, USAGE, AUTH, CANCELLED, INTERRUPTED = 1, 2, 3, 8, 130
_NAMESPACES = ("goldenfleet:", "aws:")


@contextmanager
def told_plainly(code: int, stopped: str) -> Iterator[None]:
    """An error of ours is a message and an exit code, never a traceback; `stopped` is said after Ctrl-C."""
    try:
        yield
    except GoldenfleetError as error:
        click.echo(f"goldenfleet: {error.message}", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
        sys.exit(error.exit_code or code)
    except KeyboardInterrupt:
        click.echo(f"goldenfleet: {stopped}", err=True)
        sys.exit(INTERRUPTED)


@contextmanager
def one_ctrl_c() -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) stops everything in order; further ones change nothing about that."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Not SIG_IGN from now on: Python complains of a signal that came just before it.
        if not stopping.is_set():
            stopping.set()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def overrides(config: tuple[str, ...]) -> Mapping[str, str]:
    """From options KEY=JSON. Raises click.BadParameter."""
    pairs = [entry.partition("=") for entry in config]
    wrong = [key for key, equals, _ in pairs if not equals or not key.startswith(_NAMESPACES)]
    if wrong:
        raise click.BadParameter(
            f"{wrong[0]!r} is not KEY=JSON with a key such as goldenfleet:tiers", param_hint="--config"
        )
    return {key: value for key, _, value in pairs}
