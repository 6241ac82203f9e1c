"""Metrics and logs of one process. No prompt, no key and no header value goes into either."""

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import structlog

from server.metrics import Metrics


class Telemetry:
    """The process's metrics and its event log."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self.log = log
        self.metrics = Metrics()

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self.metrics.exposition()

    def failed(self, error: Exception) -> None:
        """A handler's bug. Its message may quote a client, so only its type and place are logged."""
        self.metrics.handler_failures.inc()
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
        self.log.error("request.failed", error=type(error).__name__, at=places[-4:])


def open_log(
    *, role: str, instance_id: str, clock: Callable[[], float] = time.time, file: TextIO | None = None
) -> structlog.typing.FilteringBoundLogger:
    """JSON lines, each with `event`, `ts` (unix seconds), `level`, `role` and `instance_id`."""

    def stamp(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["ts"] = round(clock(), 6)
        return event

    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(file or sys.stdout),
        processors=[structlog.processors.add_log_level, stamp, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        role=role,
        instance_id=instance_id,
    )
    return logger
