"""Gaps of moto 5.2.5 in log streams: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain

GROUP = "/goldenfleet/lab/model"


def prepare(aws: Aws) -> None:
    """A log group with a line of each of two nodes."""
    aws.logs.create_log_group(logGroupName=GROUP)
    for name in ("i-01", "i-02"):
        aws.logs.create_log_stream(logGroupName=GROUP, logStreamName=name)
        line = {"timestamp": int(time.time() * 1000), "message": name}
        aws.logs.put_log_events(logGroupName=GROUP, logStreamName=name, logEvents=[line])


def lines(aws: Aws, **asked: object) -> list[str]:
    return [one["message"] for one in aws.logs.filter_log_events(logGroupName=GROUP, **asked)["events"]]


def test_streams_are_found_by_how_they_begin(plain: Plain, emulate: Emulate) -> None:
    """All lines of those, and none where none begins so."""
    with plain() as aws:
        prepare(aws)
        assert lines(aws, logStreamNamePrefix="i-01") == ["i-01", "i-02"]
    with emulate() as aws:
        prepare(aws)
        assert lines(aws, logStreamNamePrefix="i-01") == ["i-01"]
        assert lines(aws, logStreamNamePrefix="i-0") == ["i-01", "i-02"]
        assert lines(aws, logStreamNamePrefix="i-03") == []
        with pytest.raises(ClientError, match="InvalidParameter"):
            lines(aws, logStreamNamePrefix="i-0", logStreamNames=["i-01"])


def test_a_stream_that_is_not_there_is_no_empty_one(plain: Plain, emulate: Emulate) -> None:
    """Who asks for one node's log is told that it has none."""
    with plain() as aws:
        prepare(aws)
        assert lines(aws, logStreamNames=["i-03"]) == []
    with emulate() as aws:
        prepare(aws)
        assert lines(aws, logStreamNames=["i-02"]) == ["i-02"]
        assert lines(aws) == ["i-01", "i-02"]
        with pytest.raises(ClientError, match=r"ResourceNotFound.* log stream does not exist"):
            lines(aws, logStreamNames=["i-03"])
