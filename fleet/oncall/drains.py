"""A person's drain: a message on the stack's notice queue, where every other notice arrives."""

from __future__ import annotations

import getpass
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fleet.oncall.aws import Aws
from fleet.oncall.errors import AwsFailed, NotFound, bring_up
from fleet.stack.naming import resource_name

SOURCE: Final = "goldenfleet"
DRAIN: Final = "Goldenfleet Drain Request"
UNDRAIN: Final = "Goldenfleet Undrain Request"
_BATCH = 10  # the most messages that SQS takes at once
AUTONAMED: Final = re.compile(r"(-[0-9a-f]{7})?")
"""What follows a logical name in AWS's: Pulumi's suffix, or nothing."""


def request_drain(
    aws: Aws, instance_ids: Sequence[str], reason: str, deadline_s: float | None = None, by: str = ""
) -> dict[str, str]:
    """Ask that nodes drain within `deadline_s` from now (None: as long as a spot notice).

    Gives instance id -> the request's id, which the history repeats. Raises OnCallError.
    """
    return _send(aws, DRAIN, instance_ids, {"reason": reason, "deadline-s": deadline_s, "by": by or whoami()})


def request_undrain(aws: Aws, instance_ids: Sequence[str], reason: str, by: str = "") -> dict[str, str]:
    """Ask that nodes serve again; gives the same. Raises OnCallError."""
    return _send(aws, UNDRAIN, instance_ids, {"reason": reason, "deadline-s": None, "by": by or whoami()})


def whoami() -> str:
    """For the history: no proof of anything."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def queue_url(aws: Aws) -> str:
    """Of the stack's notices. Raises NotFound."""
    return _queue(aws, resource_name(aws.stack, "notices"))


def dead_letter_url(aws: Aws) -> str:
    """Of notices that could not be handled. Raises NotFound."""
    return _queue(aws, resource_name(aws.stack, "notices-dead"))


def _queue(aws: Aws, name: str) -> str:
    urls: list[str] = aws.pages("sqs.list_queues", "QueueUrls", QueueNamePrefix=name)
    for url in urls:
        if AUTONAMED.fullmatch(url.rpartition("/")[2].removeprefix(name)):
            return url
    raise NotFound(f"there is no queue {name}", bring_up(aws.stack))


def _send(aws: Aws, kind: str, instance_ids: Sequence[str], detail: dict[str, Any]) -> dict[str, str]:
    url, now = queue_url(aws), datetime.now(UTC)
    requests = {instance_id: str(uuid.uuid4()) for instance_id in instance_ids}
    entries = [
        {"Id": str(number), "MessageBody": json.dumps(_message(kind, now, one, request, detail))}
        for number, (one, request) in enumerate(requests.items())
    ]
    for batch in _batches(entries):
        answer = aws.call("sqs.send_message_batch", QueueUrl=url, Entries=batch)
        if failed := answer.get("Failed"):
            raise AwsFailed(
                f"sqs.send_message_batch failed: {failed[0].get('Code')}: {failed[0].get('Message', '')}",
                "Some of the nodes may have been asked. Ask again: it is harmless.",
            )
    return requests


def _message(kind: str, now: datetime, instance_id: str, request: str, detail: dict[str, Any]) -> object:
    time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "source": SOURCE,
        "detail-type": kind,
        "time": time,
        "detail": {"instance-id": instance_id, "request": request, **detail},
    }


def _batches(entries: Sequence[dict[str, str]]) -> Iterator[Sequence[dict[str, str]]]:
    for start in range(0, len(entries), _BATCH):
        yield entries[start : start + _BATCH]
