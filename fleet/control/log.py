"""JSON lines on stdout, as nodes write them: `event`, `ts` in unix seconds, and fields."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO


class Log:
    """Threads may share one."""

    def __init__(self, out: TextIO = sys.stdout, clock: Callable[[], float] = time.time) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self, event: str, **fields: object) -> None:
        line = json.dumps({"event": event, "ts": self._clock(), "role": "control", **fields})
        with self._lock:
            print(line, file=self._out, flush=True)
