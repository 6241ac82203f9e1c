"""The handler as a Lambda function: batches of the queue, ticks of fallback, and direct questions.

A message that must come back is put back for as long as its notice says, and reported as failed, so that
Lambda does not delete it (Lambda guide, "Implementing partial batch responses"). Messages may come twice.

A function that dies, or runs out of time, says nothing, and its messages would stay hidden for the queue's
own time, which the guide wants to be six times the function's: so they are hidden for less first of all.

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
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet.control import node
from fleet.control.aws import Account
from fleet.control.drain import Rules
from fleet.control.errors import AwsFailed
from fleet.control.fallback_account import FallbackAccount
from fleet.control.fallback_round import Fallback
from fleet.control.handler import Handler, message_of
from fleet.control.log import Log
from fleet.control.notices import is_instance
from fleet.control.perform import Again, side_by_side
from fleet.control.queue import put_back

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# Fifty nodes are asked at a time: where all of these hang, the function still has time to say so.
_MOST_ASKED: Final = 300
LOST_S: Final = 20.0
"""After so long a batch comes back that nobody answered for: a little longer than the function may take."""

# One try: without the queue there is all the rest of the function's time.
_QUEUE_CONFIG: Final = Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1})


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
        sqs=boto3.client("sqs", config=_QUEUE_CONFIG),
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
        self._put_back({record["receiptHandle"]: LOST_S for record in records})
        verdicts = self.handler.handle([message_of(one["body"], one["attributes"]) for one in records])
        left = [(r, v.seconds) for r, v in zip(records, verdicts, strict=True) if isinstance(v, Again)]
        self._put_back({record["receiptHandle"]: pause for record, pause in left})
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record, _ in left]}

    def _put_back(self, pauses: Mapping[str, float]) -> None:
        try:
            put_back(self.sqs, self.queue_url, pauses)
        except (ClientError, BotoCoreError) as exc:
            # They come back later, by the time that they are hidden for now.
            self.log("queue.failed", error=str(exc))

    def _states(self, instances: object) -> dict[str, Any]:
        """By instance id: what its node says of itself, or `error`."""
        if not isinstance(instances, list) or not all(is_instance(one) for one in instances):
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
