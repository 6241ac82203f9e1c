"""The history of notices in CloudWatch Logs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import boto3
from hypothesis import given
from hypothesis import strategies as st

from fleet.control.log import Log
from fleet.control.log_group import LogGroup, first_batch

GROUP = "/goldenfleet/lab/control"


def test_a_group_that_is_away(fleet: Any) -> None:
    """Lines are kept until the group is there, and the outage is told once."""
    complaints = io.StringIO()
    group = LogGroup(GROUP, "one", complaints)
    group.add(fleet.clock(), "first")
    assert not group.send()
    assert not group.send()
    boto3.client("logs").create_log_group(logGroupName=GROUP)
    group.add(fleet.clock(), "second")
    assert group.send()
    assert [event["message"] for event in _history()] == ["first", "second"]
    assert len(complaints.getvalue().splitlines()) == 1


def test_lines_out_of_order(fleet: Any) -> None:
    """Lines of several threads are sent in the order of their times, as CloudWatch wants them."""
    boto3.client("logs").create_log_group(logGroupName=GROUP)
    group, now = LogGroup(GROUP, "one"), fleet.clock()
    for shift in (3, 1, 2):
        group.add(now + shift, f"line {shift}")
    assert group.send()
    assert [event["message"] for event in _history()] == ["line 1", "line 2", "line 3"]


def test_leaving_sends_what_waits(fleet: Any) -> None:
    """A process that ends has sent its last line."""
    boto3.client("logs").create_log_group(logGroupName=GROUP)
    with LogGroup(GROUP, "one") as group:
        Log(io.StringIO(), fleet.clock, group.add)("control.stopped", stack="lab", tier=None)
    [event] = _history()
    assert json.loads(event["message"]) == {
        "event": "control.stopped",
        "ts": fleet.clock(),
        "role": "control",
        "stack": "lab",
    }
    assert event["timestamp"] == int(fleet.clock() * 1000)


@given(st.lists(st.sampled_from([1, 10, 200_000, 600_000]), min_size=1, max_size=30))
def test_batches(sizes: list[int]) -> None:
    """No batch is empty, none above 1 MiB with its overhead unless one line is, and no line is left out."""
    waiting = [(float(n), "x" * size) for n, size in enumerate(sizes)]
    left = list(waiting)
    while left:
        batch = first_batch(left)
        assert batch
        assert len(batch) == 1 or sum(len(line) + 26 for _, line in batch) <= 1_048_576
        assert list(batch) == left[: len(batch)]
        left = left[len(batch) :]


def test_a_batch_has_at_most_ten_thousand_lines() -> None:
    """However short they are."""
    assert len(first_batch([(0.0, "x")] * 10_001)) == 10_000


def test_the_process_writes_its_history(
    fleet: Any, until: Callable[[Callable[[], bool]], None], tmp_path: Any
) -> None:
    """What the loop prints is in the log group while it runs, and all of it when it has ended."""
    boto3.client("logs").create_log_group(logGroupName=GROUP)
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "fleet.control", "--queue-url", fleet.queue_url, "--stack", "lab"]
    command += ["--log-group", GROUP]
    with out.open("w") as stdout, subprocess.Popen(command, stdout=stdout, env=dict(os.environ)) as process:
        until(lambda: "control.started" in out.read_text())
        fleet.cloud.interrupt(fleet.members()[0].instance_id)
        until(lambda: any("instance.detached" in event["message"] for event in _history()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert [event["message"] for event in _history()] == out.read_text().splitlines()


def _history() -> list[dict[str, Any]]:
    found: Any = boto3.client("logs").filter_log_events(logGroupName=GROUP)["events"]
    return list(found)
