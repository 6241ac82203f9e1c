"""A time limit for one blocking read of a body: httpcore2 fixes the longest silence when a body begins, and a
trickle is no silence. Without a thread or a lock, so that Ctrl-C may come at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

# A socket's timeout of nothing would mean that it does not block.
_LEAST_S = 0.001


class ReadLimit(threading.local):
    """Shared by the calls of one sync client; each thread has its own time."""

    by: float | None = None

    def keep(self, stream: Any) -> None:
        """On the stream of a connection, from now on."""
        if "read" not in vars(stream):
            stream.read = partial(self._read, stream.read)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self.by = time.monotonic() + seconds
        try:
            yield
        finally:
            self.by = None

    def lift(self) -> None:
        """What Ctrl-C may have left of an earlier read."""
        self.by = None

    def _read(
        self, read: Callable[[int, float | None], bytes], max_bytes: int, timeout: float | None = None
    ) -> bytes:
        limit_s = timeout if self.by is None else max(_LEAST_S, self.by - time.monotonic())
        return read(max_bytes, limit_s)
