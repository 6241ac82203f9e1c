"""Gaps of moto 5.2.5 in functions: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

Client = Callable[[str], Any]

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain


def make(aws: Aws, client: Any) -> str:
    """A function that reads a queue; the queue's URL."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("it.py", "def handle(event, context): return {}")
    role = aws.iam.create_role(RoleName="runs", AssumeRolePolicyDocument=json.dumps({}))["Role"]["Arn"]
    client.create_function(
        FunctionName="control",
        Role=role,
        Runtime="python3.13",
        Handler="it.handle",
        Code={"ZipFile": held.getvalue()},
        LoggingConfig={"LogFormat": "Text", "LogGroup": "/goldenfleet/lab/control"},
    )
    url = str(aws.sqs.create_queue(QueueName="q")["QueueUrl"])
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client.create_event_source_mapping(EventSourceArn=arn, FunctionName="control", BatchSize=50)
    return url


def received(aws: Aws, url: str) -> list[str]:
    aws.sqs.send_message(QueueUrl=url, MessageBody="a notice")
    found = aws.sqs.receive_message(QueueUrl=url).get("Messages", [])
    return [message["Body"] for message in found]


def test_messages_wait_for_whoever_asks(
    plain: Plain, emulate: Emulate, client: Client, plain_client: Client
) -> None:
    """A function that is mapped to a queue takes none of its messages: here a process does its work."""
    with plain() as aws, pytest.raises(Exception, match="docker"):
        received(aws, make(aws, plain_client("lambda")))
    with emulate() as aws:
        url = make(aws, client("lambda"))
        assert received(aws, url) == ["a notice"]


def test_a_functions_log_group_is_told(
    plain: Plain, emulate: Emulate, client: Client, plain_client: Client
) -> None:
    """Where it was given one."""
    with plain() as aws:
        functions = plain_client("lambda")
        make(aws, functions)
        assert "LoggingConfig" not in functions.get_function_configuration(FunctionName="control")
    with emulate() as aws:
        functions = client("lambda")
        make(aws, functions)
        told = functions.get_function_configuration(FunctionName="control")["LoggingConfig"]
        assert told == {"LogFormat": "Text", "LogGroup": "/goldenfleet/lab/control"}
        other = {"LogFormat": "Text", "LogGroup": "/elsewhere"}
        functions.update_function_configuration(FunctionName="control", LoggingConfig=other)
        assert functions.get_function_configuration(FunctionName="control")["LoggingConfig"] == other
