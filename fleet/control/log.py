"""JSON lines on stdout, as nodes write them: `event`, `ts` in unix seconds, and fields."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO


class Log:
    """Threads may share one. `also` is told each line and its time."""

    def __init__(
        self,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.time,
        also: Callable[[float, str], None] | None = None,
    ) -> None:
        self._out = out or sys.stdout
        self._clock = clock
        self._also = also
        self._lock = threading.Lock()

    def __call__(self, event: str, **fields: object) -> None:
        """Fields that are None are left out."""
        at = self._clock()
        told = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({"event": event, "ts": at, "role": "control", **told})
        with self._lock:
            print(line, file=self._out, flush=True)
        if self._also is not None:
            self._also(at, line)
