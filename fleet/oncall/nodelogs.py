"""A node's log: on AWS from CloudWatch Logs, else its journal by Systems Manager; in a rehearsal its file.

Nodes send what they log to their tier's log group, each to the stream of its instance id, which outlives it.
Where there is no such stream, because the image is older than that, the journal is asked for, which does not.
A stream that is there and silent is a node that is silent: nothing is run on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fleet.oncall import journal, tail
from fleet.oncall.aws import Aws
from fleet.oncall.errors import AwsFailed, NotFound
from fleet.oncall.lines import Line, lines
from fleet.oncall.snapshot import NodeView
from fleet.stack.naming import log_group

_EVERY_S = 1.0
_FILE = "log.jsonl"


def read(aws: Aws, node: NodeView, since: float) -> list[Line]:
    """Oldest first. Raises NotFound where there is no log, OnCallError."""
    if aws.kept is not None:
        return _of_file(Path(aws.kept.run_dir) / "nodes" / node.instance_id / _FILE, since)
    try:
        return _of_stream(aws, node, since)
    except AwsFailed as exc:
        # "The specified log stream does not exist", or the group.
        if exc.code != "ResourceNotFoundException":
            raise
    return journal.read(aws, node, since)


def follow(
    aws: Aws,
    node: NodeView,
    since: float,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[list[Line]]:
    """For ever: what is new, each line once. Raises OnCallError."""
    return tail.follow(partial(read, aws, node), since, lambda line: line, _EVERY_S, clock=clock, pause=pause)


def _of_stream(aws: Aws, node: NodeView, since: float) -> list[Line]:
    events = aws.pages(
        "logs.filter_log_events",
        "events",
        logGroupName=log_group(aws.stack, node.tier),
        logStreamNames=[node.instance_id],
        startTime=int(since * 1000),
    )
    lines = [Line(event["timestamp"] / 1000, event["message"].rstrip("\n")) for event in events]
    return sorted(lines, key=lambda line: line.at)


def _of_file(path: Path, since: float) -> list[Line]:
    try:
        text = path.read_text(errors="replace")
    except OSError as exc:
        raise NotFound(
            f"cannot read {path}: {exc.strerror}", "The rehearsal's log folder was removed: start another."
        ) from exc
    # The last line may be half written.
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [line for line in lines(whole) if line.at >= since]
