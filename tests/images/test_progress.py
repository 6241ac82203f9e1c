"""What people see of a bake."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from images.bake import Progress
from images.errors import BuilderError
from images.progress import Preparation, Steps


class Ticking:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 30
        return self.now


def steps(*, terminal: bool) -> tuple[Steps, io.StringIO]:
    told = io.StringIO()
    console = Console(file=told, force_terminal=terminal, width=100, highlight=False, markup=False)
    return Steps(console, Ticking()), told


def test_every_line_tells_the_time_since_the_bake_began() -> None:
    """A step is one line when it begins and one when it is done, each with the time since the first."""
    shown, told = steps(terminal=False)
    shown.show(Progress("install [docker]", "started"))
    shown.show(Progress("install [docker]", "done", 45.25))
    assert told.getvalue().splitlines() == [
        "  0:30           install [docker] ...",
        "  1:00    45.2 s install [docker]",
    ]


def test_a_failure_is_told() -> None:
    """The step that failed says so, and its error goes on."""
    shown, told = steps(terminal=False)

    def fail() -> str:
        raise BuilderError("no disk")

    with pytest.raises(BuilderError, match="no disk"):
        shown.prepare(Preparation("have a base disk", fail))
    assert told.getvalue().splitlines()[-1].endswith("have a base disk FAILED")


def test_a_preparation_says_what_it_found() -> None:
    """In one word beside its name."""
    shown, told = steps(terminal=False)
    shown.prepare(Preparation("have a base disk", lambda: "bookworm, cached"))
    assert told.getvalue().splitlines()[-1].endswith("60.0 s have a base disk: bookworm, cached")


def test_a_terminal_keeps_one_line_a_step() -> None:
    """What runs is shown while it does, and then replaced by the line that stays."""
    shown, told = steps(terminal=True)
    shown.show(Progress("install docker", "started"))
    shown.show(Progress("install docker", "done", 3))
    assert told.getvalue().count("3.0 s install docker") == 1
