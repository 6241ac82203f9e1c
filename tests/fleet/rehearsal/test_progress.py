from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from fleet.rehearsal.progress import TerminalProgress

ESCAPE = "\x1b"


def spoken(console: Console) -> None:
    progress = TerminalProgress(console, time.monotonic())
    with progress.live():
        progress.say("5 nodes serve [not markup] " + "longer than a terminal is wide " * 10)
        progress.now("up ...")
    progress.now("over")


def test_plain() -> None:
    """Off a terminal each event is one plain line, and how things stand is not shown."""
    out = io.StringIO()
    spoken(Console(file=out))
    assert out.getvalue().count("\n") == 1
    assert "[not markup]" in out.getvalue()
    assert ESCAPE not in out.getvalue()


def test_terminal() -> None:
    """On a terminal the last line lives, and is gone afterwards."""
    out = io.StringIO()
    spoken(Console(file=out, force_terminal=True))
    assert "up ..." in out.getvalue()
    assert "over" not in out.getvalue()


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is obeyed."""
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    spoken(Console(file=out, force_terminal=True))
    assert f"{ESCAPE}[3" not in out.getvalue()
