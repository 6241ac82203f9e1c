"""Calls to the outside world, kept until no lock is held, then made in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Outbox:
    """Whoever finds it idle makes the calls of everyone; nobody waits for another's calls."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._turn = threading.Lock()
        self._caller: int | None = None
        self._closed = False

    def add(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def flush(self) -> None:
        """Make the calls that wait. Never call it while holding a lock that a call may want."""
        while self._calls and self._turn.acquire(blocking=False):
            self._caller = threading.get_ident()
            try:
                self._make()
            finally:
                self._caller = None
                self._turn.release()

    def close(self) -> None:
        """Make no more calls, and wait for the one being made unless it is this thread's own."""
        self._closed = True
        if self._caller != threading.get_ident():
            with self._turn:
                self._calls.clear()

    def _make(self) -> None:
        while self._calls and not self._closed:
            _make_one(self._calls.popleft())
        if self._closed:
            self._calls.clear()


def _make_one(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001  another's code: its fault must not fail the API call that set it off
        _log.exception("a callback of the emulated cloud failed")
