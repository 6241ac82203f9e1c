"""A bake's steps as people see them on stderr: when each began, how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import rich.progress
from rich.console import Console

if TYPE_CHECKING:
    from images.bake import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Preparation:
    """Something that a bake takes from this machine, and makes if it is not there."""

    name: str
    make: Callable[[], str]
    """Says in a word what was found or made; raises an ImagesError where it cannot be had."""


class Steps:
    """One line when a step begins and one when it ends; on a terminal the first runs with its time."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False)
        self._clock = clock
        self._began = clock()
        self._running: rich.progress.Progress | None = None

    def show(self, progress: Progress) -> None:
        if progress.state == "started":
            self._start(progress.step)
        else:
            self._end(progress.step, progress.state, progress.seconds)

    def prepare(self, preparation: Preparation) -> None:
        """Carry it out as a step."""
        with self._shown(preparation.name) as ended:
            ended.append(preparation.make())

    @contextmanager
    def _shown(self, name: str) -> Iterator[list[str]]:
        started, found = self._clock(), list[str]()
        self._start(name)
        try:
            yield found
        except BaseException:
            self._end(name, "failed", self._clock() - started)
            raise
        self._end(f"{name}: {found[0]}" if found else name, "done", self._clock() - started)

    def _start(self, name: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{self._elapsed()}           {name} ...", soft_wrap=True)
            return
        self._running = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.SpinnerColumn(),
            rich.progress.TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._running.add_task(f"{self._elapsed()}           {name}", total=None)
        self._running.start()

    def _end(self, name: str, state: Literal["done", "failed"], seconds: float) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None
        failed = " FAILED" if state == "failed" else ""
        self._console.print(f"{self._elapsed()} {seconds:7.1f} s {name}{failed}", soft_wrap=True)

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self._clock() - self._began), 60)
        return f"{minutes:3}:{seconds:02}"
