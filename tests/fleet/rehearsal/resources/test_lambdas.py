"""Functions, what calls them and who may, on moto."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from fleet.rehearsal.resources.archives import Archive
from fleet.rehearsal.resources.errors import ArgumentRefusedError

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
CODE = Archive((("it/__init__.py", ""), ("it/entry.py", "def handle(event, context): return event\n")))


def function(bench: Any) -> dict[str, Any]:
    bench.make("iam/role:Role", "runs", assumeRolePolicy=json.dumps(TRUST))
    return {
        "name": "gf-lab-control",
        "role": bench.outputs("iam/role:Role", "runs")["arn"],
        "runtime": "python3.13",
        "handler": "it.entry.handle",
        "code": CODE,
        "timeout": 10,
        "environment": {"variables": {"A": "b"}},
        "tags": {"a": "b"},
    }


def mapping(bench: Any) -> dict[str, Any]:
    bench.make("lambda/function:Function", "f", **function(bench))
    bench.make("sqs/queue:Queue", "q", visibilityTimeoutSeconds=60)
    return {
        "eventSourceArn": bench.outputs("sqs/queue:Queue", "q")["arn"],
        "functionName": bench.outputs("lambda/function:Function", "f")["arn"],
        "batchSize": 50,
        "maximumBatchingWindowInSeconds": 1,
        "functionResponseTypes": ["ReportBatchItemFailures"],
        "scalingConfig": {"maximumConcurrency": 5},
    }


def permission(bench: Any) -> dict[str, Any]:
    name = bench.make("lambda/function:Function", "f", **function(bench))
    return {"function": name, "action": "lambda:InvokeFunction", "principal": "events.amazonaws.com"}


TYPES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "lambda/function:Function": function,
    "lambda/eventSourceMapping:EventSourceMapping": mapping,
    "lambda/permission:Permission": permission,
}


@pytest.mark.parametrize("kind", TYPES)
def test_what_was_made_is_found_again_and_gone_once_deleted(kind: str, bench: Any) -> None:
    """After a kill, the recorded name or what it joins tells whether it exists."""
    identity = bench.make(kind, "it", **TYPES[kind](bench))
    assert bench.find(kind, "it") == identity
    bench.outputs(kind, "it")
    bench.delete(kind, "it")
    assert bench.find(kind, "it") is None


def test_a_function_without_an_archive(bench: Any) -> None:
    """It is refused before anything is made."""
    with pytest.raises(ArgumentRefusedError):
        bench.make("lambda/function:Function", "it", **{**function(bench), "code": "text"})


def test_a_function_changes_in_place(bench: Any) -> None:
    """New code, configuration and tags reach AWS; what is taken away goes back to AWS's own value."""
    kind = "lambda/function:Function"
    name = bench.make(kind, "it", **function(bench))
    code = Archive((("it/entry.py", "def handle(event, context): return 1\n"),))
    bench.change(kind, "it", code=code, timeout=20, environment=None, tags={"c": "d"}, description="x")
    found = bench.call("lambda.GetFunction", FunctionName=name)
    configuration = found["Configuration"]
    digest = base64.b64encode(hashlib.sha256(code.zipped()).digest()).decode()
    assert bench.outputs(kind, "it")["codeSha256"] == configuration["CodeSha256"] == digest
    assert (configuration["Timeout"], configuration["Description"]) == (20, "x")
    assert "Environment" not in configuration
    assert found["Tags"] == {"c": "d"}


def test_reserved_executions(bench: Any) -> None:
    """They are set, and taken away."""
    kind = "lambda/function:Function"
    name = bench.make(kind, "it", reservedConcurrentExecutions=5, **function(bench))
    assert bench.call("lambda.GetFunctionConcurrency", FunctionName=name)["ReservedConcurrentExecutions"] == 5
    bench.change(kind, "it", reservedConcurrentExecutions=None)
    assert "ReservedConcurrentExecutions" not in bench.call(
        "lambda.GetFunctionConcurrency", FunctionName=name
    )


def test_a_mapping_changes_in_place(bench: Any) -> None:
    """Its batches, say."""
    kind = "lambda/eventSourceMapping:EventSourceMapping"
    identity = bench.make(kind, "it", **mapping(bench))
    bench.change(kind, "it", batchSize=20)
    assert bench.call("lambda.GetEventSourceMapping", UUID=identity)["BatchSize"] == 20


def test_an_archive_is_the_same_whenever_it_is_packed() -> None:
    """Its bytes depend on paths and texts only, and everybody may read what is in it."""
    assert CODE.zipped() == Archive(CODE.files).zipped()
    with zipfile.ZipFile(io.BytesIO(CODE.zipped())) as held:
        assert {entry.filename: held.read(entry).decode() for entry in held.infolist()} == dict(CODE.files)
        assert {entry.external_attr >> 16 for entry in held.infolist()} == {0o644}
