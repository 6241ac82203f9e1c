"""Logs that are followed: each line once, whatever comes late, twice, or not at all for a while."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from fleet.oncall import journal, nodelogs
from fleet.oncall.errors import AwsFailed
from fleet.oncall.tail import LATE_S, follow

Look = Callable[[float], list[tuple[float, str]]]


def told(*looks: Look, since: float = 0.0, every_s: float = 2.0) -> Iterator[list[str]]:
    """What each look brings; between two of them pass `every_s` seconds."""
    left, now = list(looks), [100.0]

    def read(begins: float) -> list[tuple[float, str]]:
        return left.pop(0)(begins)

    def pause(seconds: float) -> None:
        now[0] += seconds

    found = follow(read, since, lambda line: line, every_s, clock=lambda: now[0], pause=pause)
    for _ in looks:
        yield [text for _, text in next(found)]


def having(*lines: tuple[float, str]) -> Look:
    """A log group: what is as old as `since`, or a fraction of a millisecond older."""
    return lambda since: [line for line in lines if line[0] >= int(since * 1000) / 1000]


def failing(_: float) -> list[tuple[float, str]]:
    raise AwsFailed("logs.filter_log_events failed: ThrottlingException: Rate exceeded")


def test_a_line_is_told_once() -> None:
    """Also where it lies on the edge of what the next look asks for."""
    edge = 100.0 - LATE_S + 0.0005
    log = having((10.0, "old"), (edge, "on the edge"), (99.0, "new"))
    assert [*told(*[log] * 5, every_s=0.0003)] == [["old", "on the edge", "new"], *[[]] * 4]


def test_a_line_that_comes_late_is_told() -> None:
    """CloudWatch Logs shows lines out of order."""
    assert [*told(having((99.0, "b")), having((98.0, "a"), (99.0, "b")))] == [["b"], ["a"]]


def test_throttling_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """However long it lasts: said once, and what came meanwhile is told when AWS answers again."""
    log = having((99.0, "before"), (101.0, "meanwhile"))
    looks = [having((99.0, "before")), *[failing] * 50, log]
    assert [*told(*looks)] == [["before"], *[[]] * 50, ["meanwhile"]]
    assert capsys.readouterr().err.count("Rate exceeded") == 1


def test_a_first_look_that_fails_is_an_error() -> None:
    """A log that nobody may read is no quiet log."""
    with pytest.raises(AwsFailed):
        next(told(failing))


FILTER, SEND = "Logs_20140328.FilterLogEvents", "AmazonSSM.SendCommand"


def test_nothing_is_run_on_a_node_that_is_silent(aws, make_node, monkeypatch):
    """It has a stream, and nothing in it: that is all that there is to say."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.answers[FILTER] = json.dumps({"events": []})
    aws.failing = {SEND}
    assert nodelogs.read(aws.access(kept=False), make_node("i-1"), 0) == []


def test_a_node_without_a_stream_is_asked_for_its_journal(aws, make_node, monkeypatch):
    """Its image is older than log groups are."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    aws.failing = {FILTER, SEND}
    aws.answers[FILTER] = json.dumps({"__type": "ResourceNotFoundException"})
    aws.answers[SEND] = json.dumps({"__type": "InvalidInstanceId"})
    with pytest.raises(AwsFailed, match="Systems Manager does not reach i-1"):
        nodelogs.read(aws.access(kept=False), make_node("i-1"), 0)


def test_a_journal_that_is_cut_begins_with_a_whole_line(aws, make_node):
    """Systems Manager gives back so many characters: the first line is the rest of one."""
    text = 'outcome": "ok"}\n  File "x.py"\n{"ts": 5.0, "event": "server.ready"}\nTraceback\n'
    aws.answers[SEND] = json.dumps({"Command": {"CommandId": "c" * 36}})
    aws.answers["GetCommandInvocation"] = json.dumps({"Status": "Success", "StandardOutputContent": text})
    found = journal.read(aws.access(), make_node("i-1"), 0, pause=lambda _: None)
    assert [line.text for line in found] == ['{"ts": 5.0, "event": "server.ready"}', "Traceback"]
