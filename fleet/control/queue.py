"""The loop over the queue: receive, hand to workers, delete or put back."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet.control.handler import Again, Handler
from fleet.control.log import Log

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

# Over nine in ten interruptions of one pool come within three minutes of each other, in bursts.
_WORKERS = 20
_BATCH = 10  # the most that SQS gives at once
_PAUSE_AFTER_FAILURE_S = 1.0


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
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="notice") as workers:
            while not stopped.is_set():
                for message in self._receive(0 if once else self._wait_s, stopped):
                    free.acquire()
                    workers.submit(self._work, message, free.release)
                if once:
                    return

    def _receive(self, wait_s: int, stopped: threading.Event) -> list[MessageTypeDef]:
        try:
            received = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=wait_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        except (ClientError, BotoCoreError) as exc:
            self._log("queue.failed", error=str(exc))
            stopped.wait(_PAUSE_AFTER_FAILURE_S)
            return []
        return received.get("Messages", [])

    def _work(self, message: MessageTypeDef, release: Callable[[], object]) -> None:
        try:
            self._settle(message)
        except (ClientError, BotoCoreError) as exc:
            # The message shows itself again by the queue's own visibility timeout.
            self._log("queue.failed", error=str(exc))
        except Exception as exc:  # noqa: BLE001 - one message's bug must not end the others' worker silently
            self._log("notice.failed", error=f"{type(exc).__name__}: {exc}")
        finally:
            release()

    def _settle(self, message: MessageTypeDef) -> None:
        receives = int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
        verdict = self._handler.handle(message["Body"], receives)
        receipt = message["ReceiptHandle"]
        if isinstance(verdict, Again):
            # SQS counts whole seconds, and 0 would hand it out again at once.
            pause_s = max(1, math.floor(verdict.seconds))
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=pause_s
            )
        else:
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)
