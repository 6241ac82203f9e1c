"""The handler as the Lambda function that the stack makes of it: from its archive, and nothing else about."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.sqs.models import sqs_backends

from fleet.control.aws import Account
from fleet.control.drain import Rules
from fleet.control.fallback_account import FallbackAccount
from fleet.control.fallback_round import Fallback
from fleet.control.handler import Handler
from fleet.control.lambda_entry import Service
from fleet.control.log import Log
from fleet.rehearsal.resources.archives import Archive
from fleet.stack.control import ENTRY, code
from fleet.stack.notices import HANDLER_SECONDS

# What Lambda's runtime does: it imports the entry, and calls it with an event.
_RUNTIME = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
module, _, name = sys.argv[3].rpartition(".")
handle = getattr(importlib.import_module(module), name)
for line in sys.stdin:
    print(json.dumps({"answer": handle(json.loads(line), None)}), flush=True)
"""
# Of this environment's packages, those that the runtime has.
_PROVIDED = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")


def test_the_archive_runs_with_nothing_but_boto3(fleet: Any, tmp_path: Path) -> None:
    """Unpacked into an empty folder, apart from this checkout and its packages, it follows a notice."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.ask("Drain", victim.instance_id)
    event, questions = _event(fleet), {"ask": "states", "instances": [victim.instance_id]}
    answers, lines = _invoke(fleet, tmp_path, event, questions, {"tick": "fallback"}, {})
    again, asked, ticked, unknown = answers
    assert again == {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}
    assert asked["states"][victim.instance_id]["phase"] == "accepting"
    assert ticked == {}
    assert "unknown event" in unknown["error"]
    assert [order["reason"] for order in node.orders] == ["bad disk"]
    assert [line["event"] for line in lines][:4] == [
        "notice.seen",
        "target.deregistered",
        "instance.in_standby",
        "drain.requested",
    ]


def test_the_archive_is_fleet_control_and_little_else() -> None:
    """No loop with its command line, no compiled files; all paths as the imports want them."""
    paths = code()
    assert "fleet/control/lambda_entry.py" in paths
    assert "fleet/control/__main__.py" not in paths
    above = {path for path in paths if not path.startswith("fleet/control/")}
    assert above == {"fleet/__init__.py", "fleet/errors.py"}
    assert all(path.endswith(".py") for path in paths)


def test_a_batch_of_which_some_come_back(fleet: Any) -> None:
    """What must come back is reported and put back for as long as its notice says; the rest is done with."""
    victim = fleet.members()[0]
    fleet.listen(victim)
    fleet.client("sqs").send_message(QueueUrl=fleet.queue_url, MessageBody="junk")
    fleet.ask("Drain", victim.instance_id)
    event = _event(fleet)
    found = _service(fleet).answer(event)
    [drain] = [record for record in event["Records"] if record["body"] != "junk"]
    assert found == {"batchItemFailures": [{"itemIdentifier": drain["messageId"]}]}
    fleet.show_again()


def test_a_queue_that_cannot_be_reached(fleet: Any) -> None:
    """The message is followed and reported as failed all the same, and comes back by the queue's own time."""
    fleet.listen(fleet.members()[0])
    fleet.ask("Drain", fleet.members()[0].instance_id)
    event = _event(fleet)
    service = _service(fleet, queue_url=f"{fleet.queue_url}-gone")
    assert len(service.answer(event)["batchItemFailures"]) == 1
    assert len(fleet.logged("drain.requested")) == 1
    assert len(fleet.logged("queue.failed")) == 2


def test_a_function_that_runs_out_of_time(fleet: Any) -> None:
    """Its messages come back soon, not after the queue's own time, which is most of a spot notice's."""
    fleet.ask("Drain", fleet.members()[0].instance_id)
    queue_attributes = {"VisibilityTimeout": "91"}
    fleet.client("sqs").set_queue_attributes(QueueUrl=fleet.queue_url, Attributes=queue_attributes)
    event = _event(fleet)

    def clock() -> float:
        raise _OutOfTimeError

    with pytest.raises(_OutOfTimeError):
        _service(fleet, clock=clock).answer(event)
    [message] = sqs_backends["123456789012"]["us-east-1"].queues["gf-lab-notices"]._messages
    assert HANDLER_SECONDS < message.visible_at / 1000 - time.time() <= 2 * HANDLER_SECONDS


class _OutOfTimeError(BaseException):
    """As when Lambda ends a function: nothing of it can answer for that."""


@pytest.mark.parametrize("instances", ["i-1", [1], ["*"], ["i-1"] * 301, None])
def test_a_question_that_makes_no_sense(fleet: Any, instances: object) -> None:
    """It is answered with what is wrong."""
    assert "error" in _service(fleet).answer({"ask": "states", "instances": instances})


def test_states_of_all_kinds(fleet: Any) -> None:
    """A node that answers, one that does not, one that nobody knows; others' nodes are not asked."""
    here, dead = fleet.members()
    fleet.listen(here)
    ids = [here.instance_id, dead.instance_id, "i-0123456789abcdef0"]
    states = _service(fleet).answer({"ask": "states", "instances": ids})["states"]
    assert states[here.instance_id]["phase"] == "serving"
    assert "no answer" in states[dead.instance_id]["error"]
    assert "no instance of stack lab" in states["i-0123456789abcdef0"]["error"]
    others = _service(fleet, stack="other").answer({"ask": "states", "instances": ids})["states"]
    assert all("no instance of stack other" in state["error"] for state in others.values())


def _service(
    fleet: Any, stack: str = "lab", queue_url: str | None = None, clock: Callable[[], float] | None = None
) -> Service:
    log, account = Log(fleet.out, fleet.clock), Account()
    return Service(
        stack=stack,
        handler=Handler(Rules(stack, recheck_s=1.0), account, log, clock or fleet.clock),
        fallback=Fallback(FallbackAccount(stack), log),
        account=account,
        log=log,
        sqs=boto3.client("sqs"),
        queue_url=queue_url or fleet.queue_url,
    )


def _event(fleet: Any) -> dict[str, Any]:
    """What Lambda hands on of the queue (Lambda guide, "Example Amazon SQS message event")."""
    names: Any = ["ApproximateReceiveCount"]
    received = fleet.client("sqs").receive_message(
        QueueUrl=fleet.queue_url, MaxNumberOfMessages=10, MessageSystemAttributeNames=names
    )
    records = [
        {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "eventSource": "aws:sqs",
        }
        for message in received["Messages"]
    ]
    return {"Records": records}


def _invoke(
    fleet: Any, folder: Path, *events: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The answers, and the lines of the log, of the unpacked archive in an isolated Python."""
    unpacked, provided = folder / "task", folder / "runtime"
    provided.mkdir()
    archive = Archive(tuple((path, file.read_text()) for path, file in code().items()))
    with zipfile.ZipFile(io.BytesIO(archive.zipped())) as held:
        held.extractall(unpacked)
    packages = Path(boto3.__file__).parent.parent
    for name in _PROVIDED:
        (provided / name).symlink_to(packages / name)
    own = {"GOLDENFLEET_STACK": "lab", "GOLDENFLEET_QUEUE_URL": fleet.queue_url}
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUNTIME, str(unpacked), str(provided), ENTRY],
        input="".join(f"{json.dumps(event)}\n" for event in events),
        env={**aws, **own},
        cwd=folder,
        text=True,
        capture_output=True,
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["answer"] for line in told if "answer" in line], [line for line in told if "event" in line]
