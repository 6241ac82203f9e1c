"""One movable deadline per connection."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired` once when the time set last is reached.

    Moving a deadline later is far more common than reaching it, so the timer is left where it is and
    looks again when it fires: a request then costs no timer of its own.
    """

    __slots__ = ("_at", "_expired", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expire `seconds` from now."""
        self._at = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() <= self._at:
            return
        self._stop_timer()
        self._timer = self._loop.call_at(self._at, self._fire)

    def clear(self) -> None:
        """Nothing is due; the timer, if one runs, finds that out by itself."""
        self._at = None

    def close(self) -> None:
        """Nothing is due ever again."""
        self._at = None
        self._stop_timer()

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        # Loop timers may fire a clock tick early.
        if self._loop.time() + 0.001 < self._at:
            self._timer = self._loop.call_at(self._at, self._fire)
            return
        self._at = None
        self._expired()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
