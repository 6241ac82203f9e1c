"""What people see while a rehearsal runs: live on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.status import Status


class Progress(Protocol):
    """Where a rehearsal says what it does."""

    def say(self, line: str) -> None:
        """Something happened."""

    def now(self, line: str) -> None:
        """How things stand; may be shown or not."""


class TerminalProgress:
    """One line per event, and on a terminal a last line that says how things stand.

    `began` is the monotonic time from which elapsed seconds count.
    """

    def __init__(self, console: Console, began: float) -> None:
        self._console = console
        self._began = began
        self._status: Status | None = None

    def say(self, line: str) -> None:
        elapsed = time.monotonic() - self._began
        self._console.print(f"{elapsed:6.1f} s  {line}", markup=False, highlight=False, soft_wrap=True)

    def now(self, line: str) -> None:
        if self._status is not None:
            self._status.update(line)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show how things stand, where someone can see it change."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status("") as self._status:
            yield
        self._status = None
