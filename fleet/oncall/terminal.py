"""Manners of on-call commands: a plan before anything changes, and a Ctrl-C that leaves the fleet alone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console

from fleet.oncall.errors import AwsFailed, Declined, NotConfirmed
from fleet.terminal import INTERRUPTED

SOME_FAILED = 4
TIMED_OUT = 9
_TERMINATED = 128 + signal.SIGTERM
_WIDE = 200  # columns off a terminal, where nothing is to be cut short
_NOT_ASKED = "Give --yes to do it without being asked; --dry-run only shows the plan."


def out() -> Console:
    """Results, in colour only on a terminal and without NO_COLOR; rich sees to both."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def say(line: str) -> None:
    click.echo(line, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Raises NotConfirmed where nobody is there to ask, Declined for any answer but yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed("nobody is there to ask, and nothing was done", _NOT_ASKED)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        say("")
        agreed = False
    if not agreed:
        raise Declined("not confirmed, and nothing was done")


@contextmanager
def looking_on() -> Iterator[None]:
    """One look of many: where AWS fails, throttles perhaps, the next look is another chance."""
    try:
        yield
    except AwsFailed as error:
        say(f"goldenfleet: {error.message}")


@contextmanager
def detaching(words: str) -> Iterator[None]:
    """While inside, Ctrl-C and SIGTERM only end the looking, say `words`, and exit with 130 and 143."""
    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not came:
            came.append(number)
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        say(f"goldenfleet: {words}")
        sys.exit(_TERMINATED if signal.SIGTERM in came else INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
