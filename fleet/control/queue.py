"""The loop over the queue: receive, hand batches to workers, delete or put back."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet.control.handler import Handler, Message, message_of
from fleet.control.log import Log
from fleet.control.perform import Again

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

T = TypeVar("T")

# Over nine in ten interruptions of one pool come within three minutes of each other, in bursts: a batch
# shares its calls to AWS, and batches are handled side by side.
_WORKERS: Final = 4
_BATCH: Final = 50
_AT_ONCE: Final = 10  # the most that SQS gives or takes in one call
_HIDDEN_S: Final = 30  # longer than a batch takes, where nothing hangs
_PAUSE_AFTER_FAILURE_S: Final = 1.0


class Queue:
    """At least once: a message is deleted only when its notice needs nothing more."""

    def __init__(self, url: str, handler: Handler, log: Log, wait_s: int = 20) -> None:
        self._url: Final = url
        self._handler: Final = handler
        self._log: Final = log
        self._wait_s: Final = wait_s
        config = Config(
            connect_timeout=2, read_timeout=wait_s + 10, retries={"mode": "standard"}, max_pool_connections=32
        )
        self._sqs: SQSClient = boto3.client("sqs", config=config)

    def run(self, *, once: bool, stopped: threading.Event) -> None:
        """Until `stopped`, or with `once` after one round. What workers hold is finished first."""
        free = threading.Semaphore(_WORKERS)
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="batch") as workers:
            while not stopped.is_set():
                if batch := self._gather(0 if once else self._wait_s, stopped):
                    free.acquire()
                    workers.submit(self._work, batch, free.release)
                if once:
                    return

    def _gather(self, wait_s: int, stopped: threading.Event) -> list[MessageTypeDef]:
        """What is there, up to a batch: only the first call waits, and a burst fills every call."""
        batch = self._receive(wait_s, stopped)
        while batch and len(batch) % _AT_ONCE == 0 and len(batch) < _BATCH:
            more = self._receive(0, stopped)
            batch += more
            if not more:
                break
        return batch

    def _receive(self, wait_s: int, stopped: threading.Event) -> list[MessageTypeDef]:
        try:
            received = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_AT_ONCE,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=_HIDDEN_S,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        except (ClientError, BotoCoreError) as exc:
            self._log("queue.failed", error=str(exc))
            stopped.wait(_PAUSE_AFTER_FAILURE_S)
            return []
        return received.get("Messages", [])

    def _work(self, batch: Sequence[MessageTypeDef], release: Callable[[], object]) -> None:
        try:
            self._settle(batch)
        except (ClientError, BotoCoreError) as exc:
            # The messages show themselves again by the queue's own visibility timeout.
            self._log("queue.failed", error=str(exc))
        finally:
            release()

    def _settle(self, batch: Sequence[MessageTypeDef]) -> None:
        verdicts = self._handler.handle([_message(one) for one in batch])
        receipts = [one["ReceiptHandle"] for one in batch]
        pauses = {
            receipt: verdict.seconds
            for receipt, verdict in zip(receipts, verdicts, strict=True)
            if isinstance(verdict, Again)
        }
        put_back(self._sqs, self._url, pauses)
        for some in _slices([receipt for receipt in receipts if receipt not in pauses]):
            entries: Any = [{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(some)]
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


def put_back(sqs: SQSClient, url: str, pauses: Mapping[str, float]) -> None:
    """Let messages show themselves again after so many seconds, by their receipts. SQS counts whole seconds,
    and 0 would hand a message out again at once. Raises botocore's errors.
    """
    for some in _slices(list(pauses.items())):
        entries: Any = [
            {"Id": str(n), "ReceiptHandle": receipt, "VisibilityTimeout": max(1, math.floor(seconds))}
            for n, (receipt, seconds) in enumerate(some)
        ]
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _message(received: MessageTypeDef) -> Message:
    attributes: Mapping[Any, str] = received.get("Attributes", {})
    return message_of(received["Body"], attributes)


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
