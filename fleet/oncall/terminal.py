"""Manners of on-call commands: a plan before anything changes, and a Ctrl-C that leaves the fleet alone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console

from fleet.oncall.errors import AwsFailed, Declined, NotConfirmed, Stopped
from fleet.terminal import INTERRUPTED

SOME_FAILED = 4
TIMED_OUT = 9
_TERMINATED = 128 + signal.SIGTERM
_WIDE = 200  # columns off a terminal, where nothing is to be cut short
_NOT_ASKED = "Give --yes to do it without being asked; --dry-run only shows the plan."


def out() -> Console:
    """Results, in colour only on a terminal and without NO_COLOR. FORCE_COLOR, as CI sets it, makes none of a
    pipe."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE, force_terminal=False)


def printable(words: str) -> str:
    """What others wrote, without what would move a terminal's cursor, or forge a line of it."""
    return "".join(
        one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in words
    )


def say(line: str) -> None:
    click.echo(line, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Raises NotConfirmed where nobody is there to ask, Declined for any answer but yes, Stopped for none."""
    if yes:
        return
    # None where it is closed.
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotConfirmed("nobody is there to ask, and nothing was done", _NOT_ASKED)
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt as exc:
        say("")
        raise Stopped("stopped, and nothing was done") from exc
    if not answer:
        say("")  # Ctrl-D leaves the cursor behind the question
    if answer.strip().lower() not in ("y", "yes"):
        raise Declined("not confirmed, and nothing was done")


class LookingOn:
    """One look after another: where AWS fails, throttles perhaps, the next look is another chance. A failure
    is said once for as long as it lasts."""

    def __init__(self) -> None:
        self._said = ""

    @contextmanager
    def on(self) -> Iterator[None]:
        try:
            yield
            self._said = ""
        except AwsFailed as error:
            if error.message != self._said:
                say(f"goldenfleet: {error.message}; looking again")
            self._said = error.message


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
