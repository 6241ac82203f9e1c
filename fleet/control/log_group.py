"""A log group of CloudWatch Logs that the loop writes into; a Lambda function's stdout gets there by itself.

Limits of one PutLogEvents (API reference): 10,000 events in the order of their times, and 1 MiB, to which
each event adds 26 bytes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TextIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import InputLogEventTypeDef

_BATCH_EVENTS: Final = 10_000
_BATCH_BYTES: Final = 1_048_576
_EVENT_BYTES: Final = 26
_PAUSE_S: Final = 0.5  # between batches: people watch a drain live
_MOST_WAITING: Final = 50_000  # lines, kept while CloudWatch Logs is away; then the oldest are lost


class LogGroup:
    """Sends lines to one stream of the group, from a thread of its own: no handler ever waits for it.

    Failures are told on `complaints` once an outage, and what could not be sent is sent later.
    """

    def __init__(self, name: str, stream: str, complaints: TextIO = sys.stderr) -> None:
        self._name: Final = name
        self._stream: Final = stream
        self._complaints: Final = complaints
        config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})
        self._logs: CloudWatchLogsClient = boto3.client("logs", config=config)
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, str]] = []
        self._closing = threading.Event()
        self._there = self._failing = False
        self._thread = threading.Thread(target=self._run, name="log-group", daemon=True)

    def add(self, at: float, line: str) -> None:
        """`at` in unix seconds."""
        with self._lock:
            self._waiting.append((at, line))
            del self._waiting[:-_MOST_WAITING]

    def send(self) -> bool:
        """Everything that waits; False when CloudWatch Logs did not take it."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        waiting.sort(key=lambda entry: entry[0])
        while waiting:
            batch = first_batch(waiting)
            if not self._put(batch):
                with self._lock:
                    self._waiting = [*waiting, *self._waiting][-_MOST_WAITING:]
                return False
            waiting = waiting[len(batch) :]
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What waits is sent first."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_PAUSE_S):
            self.send()
        self.send()

    def _put(self, batch: Sequence[tuple[float, str]]) -> bool:
        events: list[InputLogEventTypeDef] = [
            {"timestamp": int(at * 1000), "message": line} for at, line in batch
        ]
        try:
            self._make_stream()
            self._logs.put_log_events(logGroupName=self._name, logStreamName=self._stream, logEvents=events)
        except (ClientError, BotoCoreError) as exc:
            self._complain(exc)
            return False
        self._failing = False
        return True

    def _make_stream(self) -> None:
        if self._there:
            return
        # It exists where the answer to an earlier try was lost.
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):
            self._logs.create_log_stream(logGroupName=self._name, logStreamName=self._stream)
        self._there = True

    def _complain(self, problem: Exception) -> None:
        if not self._failing:
            print(f"log group {self._name}: {problem}", file=self._complaints, flush=True)
        self._failing = True


def first_batch(waiting: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
    """As many of the first lines as one call may carry."""
    size = 0
    for count, (_, line) in enumerate(waiting):
        size += len(line.encode()) + _EVENT_BYTES
        if count == _BATCH_EVENTS or (size > _BATCH_BYTES and count > 0):
            return waiting[:count]
    return waiting
