"""A time limit for one blocking read: a socket's own timeout starts anew with every byte or is fixed when a
body begins, so a thread shuts the socket down when the time for this read is over."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _Limit:
    def __init__(self, sock: socket.socket, at: float) -> None:
        self.sock = sock
        self.at = at
        self.passed = False


class Watchdog:
    """Shared by the calls of one sync client. Its thread starts with the first read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: set[_Limit] = set()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def limit(self, sock: socket.socket, seconds: float) -> Iterator[_Limit]:
        """`passed` of what this gives is True once the socket was shut down."""
        limit = _Limit(sock, time.monotonic() + seconds)
        with self._changed:
            self._limits.add(limit)
            self._ensure_thread()
            if limit.at < self._wakes_at:
                self._changed.notify()
        try:
            yield limit
        finally:
            with self._changed:
                self._limits.discard(limit)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, name="goldenfleet-watchdog", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                self._shut_down_overdue(time.monotonic())
                self._wakes_at = min((limit.at for limit in self._limits), default=float("inf"))
                left_s = self._wakes_at - time.monotonic()
                self._changed.wait(None if left_s == float("inf") else max(0.0, left_s))

    def _shut_down_overdue(self, now: float) -> None:
        for limit in [limit for limit in self._limits if limit.at <= now]:
            limit.passed = True
            self._limits.discard(limit)
            with suppress(OSError):  # it went away by itself: the reader learns that anyway
                # Not the method of a TLS socket, which would take the state from under its reader.
                socket.socket.shutdown(limit.sock, socket.SHUT_RDWR)
