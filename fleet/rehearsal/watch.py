"""What goes on in the background of a rehearsal: somebody looks at everything several times a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from fleet.rehearsal.census import Census
from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.errors import NotInTimeError, ProcessFailedError
from fleet.rehearsal.processes import Processes
from fleet.rehearsal.report import NodeLife
from fleet.rehearsal.usage import family, memory_mib, processes

_LOOK_SECONDS = 0.1
_MEASURE_SECONDS = 2.0  # reading memory costs the kernel some milliseconds a process


class Watch:
    """Keeps the census, the peak of memory, and an eye on processes that must not end.

    `on_wait` is called by whoever waits, at every look.
    """

    def __init__(
        self,
        instances: Callable[[], Sequence[InstanceView]],
        running: Processes,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._instances = instances
        self._processes = running
        self._on_wait = on_wait
        self._measure: Callable[[], None] = lambda: None
        self._vital: set[str] = set()
        self._census = Census()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch", daemon=True)
        self.memory_peak_mib = 0.0

    @property
    def lives(self) -> tuple[NodeLife, ...]:
        return self._census.lives

    def vital(self, name: str) -> None:
        """From now on `wait_until` fails as soon as this process has ended."""
        self._vital.add(name)

    def not_vital(self, name: str) -> None:
        self._vital.discard(name)

    def wait_until(
        self, condition: Callable[[], bool], seconds: float, what: str, hint: Callable[[], str] = lambda: ""
    ) -> None:
        """Return once `condition` holds.

        Raises NotInTimeError, or ProcessFailedError as soon as a vital process has ended.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            self._on_wait()
            if time.monotonic() > deadline:
                raise NotInTimeError(f"{what} did not happen within {seconds:g} s", hint())
            self._stop.wait(_LOOK_SECONDS)

    def check(self) -> None:
        """Raises ProcessFailedError when a vital process has ended, or this watch's own thread."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stop.is_set():
            raise ProcessFailedError("the watch over the fleet ended", "Its error is above.")
        for name in self._vital:
            ended = self._processes.ended(name)
            if ended is not None:
                raise ProcessFailedError(
                    f"the {name} ended in the middle of the rehearsal, code {ended.code}"
                )

    def pause(self, seconds: float) -> None:
        """Let time pass, or none when `seconds` is not positive."""
        self._stop.wait(max(0.0, seconds))

    def also_measure(self, measure: Callable[[], None]) -> None:
        """From now on call this too, in the background, every two seconds or so."""
        self._measure = measure

    def measure_memory(self) -> None:
        everyone = family(list(processes()), [os.getpid(), self._processes.keeper_pid])
        self.memory_peak_mib = max(self.memory_peak_mib, memory_mib(everyone))

    def _look_on(self) -> None:
        measured = 0.0
        while not self._stop.wait(_LOOK_SECONDS):
            self._census.look(self._instances(), time.time())
            if time.monotonic() - measured > _MEASURE_SECONDS:
                self.measure_memory()
                self._measure()
                measured = time.monotonic()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
