"""The handler as a Lambda function: batches of the queue, ticks of fallback, and direct questions.

A message that must come back is put back for as long as its notice says, and reported as failed, so that
Lambda does not delete it (Lambda guide, "Implementing partial batch responses"). Messages may come twice.

Environment: GOLDENFLEET_STACK and GOLDENFLEET_QUEUE_URL. stdout is the log group of the function.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from fleet.control import node
from fleet.control.aws import CONFIG, Account
from fleet.control.drain import Rules
from fleet.control.errors import AwsFailed
from fleet.control.fallback_account import FallbackAccount
from fleet.control.fallback_round import Fallback
from fleet.control.handler import Handler, Message
from fleet.control.log import Log
from fleet.control.perform import Again, side_by_side
from fleet.control.queue import put_back

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# A question names as many instances as one answer of 6 MB surely holds.
_MOST_ASKED: Final = 500


def handle(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """What Lambda calls."""
    return _service().answer(event)


@cache
def _service() -> Service:
    """Clients live as long as the function's environment."""
    stack, log = os.environ["GOLDENFLEET_STACK"], Log()
    account = Account()
    return Service(
        stack=stack,
        handler=Handler(Rules(stack), account, log, time.time),
        fallback=Fallback(FallbackAccount(stack), log),
        account=account,
        log=log,
        sqs=boto3.client("sqs", config=CONFIG),
        queue_url=os.environ["GOLDENFLEET_QUEUE_URL"],
    )


@dataclass(frozen=True)
class Service:
    stack: str
    handler: Handler
    fallback: Fallback
    account: Account
    log: Log
    sqs: SQSClient
    queue_url: str
    describe: Callable[[str], dict[str, Any]] = node.describe

    def answer(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Of a batch, which of its messages must come back; of a question, its answer."""
        if "Records" in event:
            return self._batch(event["Records"])
        if event.get("tick") == "fallback":
            self.fallback.run(time.time())
            return {}
        if event.get("ask") == "states":
            return self._states(event.get("instances", ()))
        return {"error": "unknown event: send a batch of the queue, or ask for states"}

    def _batch(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        verdicts = self.handler.handle([_message(record) for record in records])
        left = [(r, v.seconds) for r, v in zip(records, verdicts, strict=True) if isinstance(v, Again)]
        try:
            put_back(self.sqs, self.queue_url, {record["receiptHandle"]: pause for record, pause in left})
        except (ClientError, BotoCoreError) as exc:
            # They come back later, by the queue's own visibility timeout.
            self.log("queue.failed", error=str(exc))
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record, _ in left]}

    def _states(self, instances: object) -> dict[str, Any]:
        """By instance id: what its node says of itself, or `error`."""
        if not isinstance(instances, list) or not all(isinstance(one, str) for one in instances):
            return {"error": "instances must be a list of instance ids"}
        if len(instances) > _MOST_ASKED:
            return {"error": f"ask for {_MOST_ASKED} instances at most"}
        try:
            known = self.account.look(self.stack, instances).instances
        except AwsFailed as exc:
            return {"error": str(exc)}
        found = {one: known.get(one) for one in instances}
        addresses = {
            one: it.address for one, it in found.items() if it is not None and it.stack == self.stack
        }
        states = {
            one: {"error": f"no instance of stack {self.stack}"} for one in found if one not in addresses
        }
        asked = list(addresses.items())
        answers = side_by_side(lambda pair: self._state(pair[1]), asked)
        return {
            "states": {**states, **{one: answer for (one, _), answer in zip(asked, answers, strict=True)}}
        }

    def _state(self, address: str | None) -> dict[str, Any]:
        return {"error": "it has no address"} if address is None else self.describe(address)


def _message(record: Mapping[str, Any]) -> Message:
    receives = record.get("attributes", {}).get("ApproximateReceiveCount", "1")
    return Message(str(record["body"]), int(receives))
