"""Fallback beside the loop that follows notices, in a thread of its own: no notice ever waits for it.

In the account a schedule and the events of failed launches call it instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol, Self

from fleet.control.log import Log

PERIOD_S: Final = 60.0
"""Of AWS's time, as often as the schedule in the account (fleet/stack/control.py)."""

# A tenth of AWS's time must not become a busy loop.
_LEAST_PAUSE_S: Final = 0.5


class Round(Protocol):
    def run(self, now: float) -> float | None: ...


class FallbackLoop:
    """Looks once a period, when it said that looking again pays, and soon after `soon` was called."""

    def __init__(
        self, fallback: Round, log: Log, clock: Callable[[], float], period_s: float = PERIOD_S
    ) -> None:
        self._fallback: Final = fallback
        self._log: Final = log
        self._clock: Final = clock
        self._period_s: Final = period_s
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fallback", daemon=True)

    def soon(self, _now: float) -> None:
        """Something changed that may leave a tier short."""
        self._woken.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """A look that goes on is finished first."""
        self._closing.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            again_s = self._look()
            pause_s = self._period_s if again_s is None else min(self._period_s, again_s)
            self._closing.wait(_LEAST_PAUSE_S)
            self._woken.wait(max(0.0, pause_s - _LEAST_PAUSE_S))
            self._woken.clear()

    def _look(self) -> float | None:
        try:
            return self._fallback.run(self._clock())
        except Exception as exc:  # noqa: BLE001 - a bug in one look must not end the looks for good
            self._log("fallback.failed", error=f"{type(exc).__name__}: {exc}")
            return None
