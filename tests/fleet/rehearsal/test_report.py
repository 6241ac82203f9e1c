from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fleet.rehearsal.answers import Answer
from fleet.rehearsal.nodes import LogEvent
from fleet.rehearsal.report import (
    Cost,
    Counts,
    Facts,
    Interruption,
    NodeLife,
    Percentiles,
    cost,
    make_report,
    percentiles,
    times,
)
from fleet.rehearsal.words import describe

T0 = 1000.0
GOOD = Answer(0, "generate_stream", "k", T0, T0 + 2, 0.5, "text", "stop", 1, 0, True)
LIFE = NodeLife("i-1", "model", "127.0.16.4", "us-east-1a", "c7i.large", "spot", 0.03, T0 - 10)
SPOT = Interruption("spot", "model", "i-1", "spot", T0 + 5, T0 + 17, "i-2", T0 + 12.25)
NOTHING = Facts([], {"k": "text"}, [], [], [], T0, T0 + 60, 0.0, 75.0, {}, {})


def event(name: str, after: float, instance: str = "i-1", role: str = "model", **fields: object) -> LogEvent:
    return LogEvent(SPOT.at + after, name, instance, role, fields)


def test_outcomes_are_counted() -> None:
    """Each request has one outcome, and a lost or truncated one breaks the promise."""
    answers = [
        GOOD,
        replace(GOOD, kind="chat"),
        replace(GOOD, error="ServerFailed: 503", finish_reason=None),
        replace(GOOD, error="StreamTruncated: cut", cut=True),
        replace(GOOD, text="other"),
    ]
    report = make_report(replace(NOTHING, answers=answers))
    assert (report.requests, report.streams) == (5, 4)
    assert (report.lost, report.truncated, report.diverged) == (1, 1, 1)
    assert not report.kept_the_promise
    assert len(report.problems) == 3


@pytest.mark.parametrize(
    ("answers", "kept"),
    [([GOOD], True), ([replace(GOOD, text="tex")], False), ([replace(GOOD, text="other")], True), ([], True)],
)
def test_promise(answers: list[Answer], kept: bool) -> None:
    """The promise is about loss and truncation."""
    assert make_report(replace(NOTHING, answers=answers)).kept_the_promise is kept


def test_who_resumed() -> None:
    """Resumes and retries of gateways come from their logs, those of clients from their answers."""
    answers = [replace(GOOD, attempts=2, resumes=1), replace(GOOD, attempts=3, resumes=1), GOOD]
    log = [
        event("request.resumed", 1, role="gateway"),
        event("request.resumed", 2, role="gateway"),
        event("request.retried", 2, role="gateway"),
        event("request.resumed", 2, role="model"),
    ]
    report = make_report(replace(NOTHING, answers=answers, log=log))
    assert (report.resumed, report.resumed_by) == (4, Counts(gateway=2, client=2))
    assert (report.retried, report.retried_by) == (2, Counts(gateway=1, client=1))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], Percentiles(0.0, 0.0)),
        ([0.25], Percentiles(0.25, 0.25)),
        ([3.0, 1.0, 2.0], Percentiles(2.0, 3.0)),
        ([n / 100 for n in range(1, 101)], Percentiles(0.5, 0.99)),
        ([n / 1000 for n in range(1, 1001)], Percentiles(0.5, 0.99)),
    ],
)
def test_percentiles(values: list[float], found: Percentiles) -> None:
    """Percentiles are values that were measured."""
    assert percentiles(values) == found


def test_failed_requests_have_no_latency() -> None:
    """A request that failed at once does not make the fleet look fast."""
    answers = [GOOD, replace(GOOD, ended=T0 + 0.001, ttft_s=None, error="ConnectionFailed: refused")]
    report = make_report(replace(NOTHING, answers=answers))
    assert (report.latency.p50, report.ttft.p50) == (2.0, 0.5)


def test_interruption_times() -> None:
    """Times count from the notice; what other nodes did, or this one before, does not matter."""
    log = [
        event("drain.refused_first", -1),
        event("drain.refused_first", 3.9, instance="i-2"),
        event("drain.refused_first", 4.25),
        event("drain.handing_over", 9.9, in_flight=3),
        event("drain.empty", 10.5),
    ]
    found = times(SPOT, log, T0)
    assert (found.at_s, found.refused_first_s, found.empty_s) == (5.0, 4.25, 10.5)
    assert (found.gone_s, found.replaced_s, found.handed_over) == (12.0, 7.25, 3)


def test_killed_node_says_nothing() -> None:
    """A node that was killed refused nothing and was never empty."""
    killed = replace(SPOT, kind="kill", gone_at=SPOT.at)
    found = times(killed, [], T0)
    assert (found.refused_first_s, found.empty_s, found.gone_s) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("launched", "gone", "share"),
    [(-10, None, 1.0), (30, None, 0.5), (-10, 15, 0.25), (15, 30, 0.25), (-20, -10, 0.0), (70, None, 0.0)],
)
def test_cost_counts_time(launched: float, gone: float | None, share: float) -> None:
    """A node costs for the part of the load that it lived through."""
    life = replace(LIFE, launched_at=T0 + launched, gone_at=None if gone is None else T0 + gone)
    found = cost([life], T0, T0 + 60)
    assert found.hourly == pytest.approx(0.03 * share, abs=1e-4)
    assert found.hourly_on_demand == pytest.approx(0.08925 * share, abs=1e-4)


def test_cost_of_nothing() -> None:
    """No time and no nodes cost nothing."""
    assert cost([LIFE], T0, T0) == Cost(0.0, 0.0, 0.0)
    assert cost([], T0, T0 + 60) == Cost(0.0, 0.0, 0.0)


def test_nodes_at_the_end() -> None:
    """Purchase options are counted over the nodes that still lived when the load ended."""
    lives = [
        LIFE,
        replace(LIFE, instance_id="i-2", gone_at=T0 + 20),
        replace(LIFE, instance_id="i-3", purchase_option="on-demand"),
        replace(LIFE, instance_id="i-4", launched_at=T0 + 61),
    ]
    assert make_report(replace(NOTHING, lives=lives)).nodes == {"spot": 1, "on-demand": 1}


def test_json_keys() -> None:
    """The keys that scripts read are there, at the top, and survive JSON."""
    report = make_report(replace(NOTHING, answers=[GOOD], interruptions=[SPOT], lives=[LIFE]))
    read = json.loads(json.dumps(report.as_json()))
    wanted = {"lost", "truncated", "diverged", "resumed", "retried", "requests", "streams", "interruptions"}
    assert wanted | {"latency", "ttft", "cost", "memory_peak_mib", "seconds"} <= read.keys()
    assert read["interruptions"][0]["replaced_s"] == 7.25
    assert read["latency"].keys() == {"p50", "p99"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (GOOD, "No client noticed."),
        (replace(GOOD, text="other"), "1 answers differ"),
        (replace(GOOD, text="te"), "1 streams truncated"),
    ],
)
def test_verdict(answer: Answer, words: str) -> None:
    """The last line says whether clients noticed."""
    report = make_report(replace(NOTHING, answers=[answer], interruptions=[SPOT], lives=[LIFE]))
    assert words in describe(report).splitlines()[-1]


def test_words_fit() -> None:
    """The report fits a terminal of 100 columns, and shows what did not happen as a dash."""
    killed = replace(SPOT, kind="kill", gone_at=SPOT.at, replaced_at=None)
    text = describe(make_report(replace(NOTHING, answers=[GOOD], interruptions=[SPOT, killed], lives=[LIFE])))
    assert max(map(len, text.splitlines())) <= 100
    assert "killed, no notice" in text
    assert " -" in text
