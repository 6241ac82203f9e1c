"""Metrics and logs of one process. No prompt, no key and no header value goes into either."""

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# From 5 ms (a refusal) to 5 min (a long generation).
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Telemetry:
    """The process's metrics, in a registry of their own, and its event log."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self.log = log
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "goldenfleet_requests",
            "Requests answered, by route and outcome.",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.retried = Counter(
            "goldenfleet_requests_retried", "Attempts after the first.", ["reason"], registry=self.registry
        )
        self.resumed = Counter(
            "goldenfleet_requests_resumed", "Streams continued elsewhere.", ["mode"], registry=self.registry
        )
        self.latency = Histogram(
            "goldenfleet_request_seconds",
            "From a request's head to its response's end.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_byte = Histogram(
            "goldenfleet_first_byte_seconds",
            "From a request's head to the first byte of its response's body.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.nodes = Gauge(
            "goldenfleet_nodes",
            "Model nodes that a gateway knows, by state.",
            ["state"],
            registry=self.registry,
        )
        self.notices = Counter(
            "goldenfleet_notices", "Notices seen, by kind.", ["kind"], registry=self.registry
        )
        self.handler_failures = Counter(
            "goldenfleet_handler_failures", "Requests that ended in a bug of ours.", registry=self.registry
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def failed(self, error: Exception) -> None:
        """A handler's bug. Its message may quote a client, so only its type and place are logged."""
        self.handler_failures.inc()
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
