"""What is seen of one request, with a clock that the test moves."""

import io
import json
import time
import timeit
from typing import Any

import pytest

from server.access_log import MOST_TROUBLED_A_SECOND, AccessLog, Mode
from server.metrics import MAX_MODELS, MAX_TENANTS, BoundedLabel
from server.observation import CLIENT_GONE, OK, Observation, Observer
from server.telemetry import Telemetry, open_log


class Desk:
    """An observer whose time stands still until it is moved."""

    def __init__(self, mode: Mode = "all") -> None:
        self.now = 100.0
        self.file = io.StringIO()
        self.telemetry = Telemetry(open_log(role="gateway", instance_id="i-1", file=self.file))
        log, metrics = self.telemetry.log, self.telemetry.metrics
        access_log = AccessLog(mode, log, metrics.unlogged, self.clock)
        self.observer = Observer(metrics, log, access_log, self.clock)

    def clock(self) -> float:
        return self.now

    def begin(self, *, stream: bool = False, model: str = "m", tenant: str | None = "acme") -> Observation:
        seen = self.observer.begin("req_1")
        seen.routed("chat")
        seen.tenant = tenant
        seen.asked(model, stream=stream)
        return seen

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.file.getvalue().splitlines()]
        return [line for line in found if line["event"] == event]

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.metrics.registry.get_sample_value(f"goldenfleet_{name}", labels)


def test_a_stream_s_times_are_its_first_token_and_its_mean_gap():
    """TTFT counts from the head; the gap is the mean of the stream, however many tokens a read brought."""
    desk = Desk()
    seen = desk.begin(stream=True)
    desk.now += 0.5
    seen.tokens(1)
    for gap in (0.1, 0.3):
        desk.now += gap
        seen.tokens(2)
    seen.ended(OK, 200)
    assert (seen.first_token_s, seen.completion_tokens) == (0.5, 5)
    assert seen.mean_gap_s == pytest.approx(0.1)
    assert seen.longest_gap_s == pytest.approx(0.3)
    labels = {"route": "chat", "model": "m"}
    assert desk.value("time_to_first_token_seconds_sum", **labels) == 0.5
    assert desk.value("inter_token_seconds_sum", **labels) == pytest.approx(0.1)
    assert desk.value("stream_tokens_per_second_sum", **labels) == pytest.approx(10)
    assert desk.value("tokens_total", direction="completion", tenant="acme", model="m") == 5


def test_the_silence_before_a_resume_is_no_gap_between_tokens():
    """What a lost node cost is not learned as the pace of those that live."""
    desk = Desk()
    seen = desk.begin(stream=True)
    seen.attempt("a")
    seen.tokens(1)
    desk.now += 30
    seen.attempt_failed("silent")
    seen.resumed("tokens", "silent", 1)
    seen.attempt("b")
    desk.now += 1
    seen.tokens(1)
    assert seen.longest_gap_s == 0
    assert [(a.node, a.failure) for a in seen.attempts] == [("a", "silent"), ("b", None)]
    assert desk.value("requests_resumed_total", mode="tokens") == 1


def test_whoever_waits_for_the_first_token_is_told_once():
    """The place among those that wait is free at the first token, not at each."""
    desk = Desk()
    told: list[float] = []
    seen = desk.begin(stream=True)
    seen.admitted(lambda: told.append(desk.now))
    seen.tokens(0)
    assert told == []
    desk.now += 1
    seen.first_token()
    seen.tokens(1)
    seen.attempt_failed("cut")
    seen.tokens(1)
    assert told == [101.0]


def test_the_line_at_the_end_is_the_whole_story():
    """One JSON line: which request, how it went, how long, and which nodes had part in it."""
    desk = Desk()
    seen = desk.begin(stream=True)
    seen.attempt("a")
    seen.attempt_failed("connect")
    seen.retried("connect")
    seen.attempt("b")
    desk.now += 0.25
    seen.tokens(3)
    seen.usage(7, 3)
    seen.ended(OK, 200)
    [line] = desk.lines("request.ended")
    del line["ts"], line["level"], line["role"], line["instance_id"], line["event"]
    assert line == {
        "request_id": "req_1",
        "route": "chat",
        "outcome": "ok",
        "status": 200,
        "tenant": "acme",
        "model": "m",
        "stream": True,
        "ms": 250.0,
        "ttft_ms": 250.0,
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "attempts": 2,
        "resumes": 0,
        "nodes": ["a", "b"],
    }


@pytest.mark.parametrize(("mode", "logged"), [("off", 0), ("troubled", 2), ("all", 3)])
def test_what_is_logged_is_what_was_asked_for(mode: Mode, logged: int):
    """`troubled` leaves out what went well at once."""
    desk = Desk(mode)
    desk.begin().ended(OK, 200)
    desk.begin().ended("nodes_failed", 502)
    seen = desk.begin()
    seen.attempt("a")
    seen.attempt("b")
    seen.ended(OK, 200)
    assert len(desk.lines("request.ended")) == logged


def test_a_flood_of_refusals_is_no_flood_of_lines():
    """Lines are bounded per second; those left out are counted, and the next second has lines again."""
    desk = Desk("troubled")
    for _ in range(MOST_TROUBLED_A_SECOND + 30):
        desk.begin().ended("rate_limited", 429)
    assert len(desk.lines("request.ended")) == MOST_TROUBLED_A_SECOND
    assert desk.value("access_lines_dropped_total") == 30
    desk.now += 1
    desk.begin().ended("rate_limited", 429)
    assert len(desk.lines("request.ended")) == MOST_TROUBLED_A_SECOND + 1


def test_a_probe_that_is_answered_is_not_counted():
    """A balancer's checks would drown what clients do."""
    desk = Desk()
    desk.observer.begin("req_1").ended(OK, 200)
    assert desk.lines("request.ended") == []
    assert "requests_total{" not in desk.telemetry.exposition().decode()


@pytest.mark.parametrize(
    ("outcome", "status", "result"),
    [
        (OK, 200, "ok"),
        (CLIENT_GONE, None, "gone"),
        ("rate_limited", 429, "refused"),
        ("nodes_failed", 502, "failed"),
    ],
)
def test_ends_are_told_apart_by_whose_fault_they_are(outcome: str, status: int | None, result: str):
    """Four words are enough for a dashboard, and bound the series."""
    desk = Desk()
    desk.begin().ended(OK, 200)
    desk.begin().ended(outcome, status)
    assert desk.value("tenant_requests_total", tenant="acme", model="m", result=result) in (1, 2)


def test_clients_cannot_make_series_at_will():
    """A flood of model names and tenants stays within the bounds, and the rest is `other`."""
    desk = Desk("off")
    for at in range(500):
        desk.begin(model=f"model-{at}", tenant=f"tenant-{at}", stream=True).ended(OK, 200)
        desk.begin(model=f"refused-{at}", tenant="tenant-0").ended("not_found", 404)
        desk.begin(model='evil"} 1\n' + "x" * at, tenant="tenant-0").ended(OK, 200)
    text = desk.telemetry.exposition().decode()
    series = [line for line in text.splitlines() if line.startswith("goldenfleet_tenant_requests_total")]
    assert len({line.split('model="')[1].split('"')[0] for line in series}) <= MAX_MODELS + 1
    assert len({line.split('tenant="')[1].split('"')[0] for line in series}) <= MAX_TENANTS + 1
    assert len(series) <= 4 * (MAX_TENANTS + MAX_MODELS)
    assert "refused-" not in text
    assert "evil" not in text
    labels = {"tenant": "tenant-0", "model": "other", "result": "refused"}
    assert desk.value("tenant_requests_total", **labels) == 500


@pytest.mark.parametrize("value", ["", "a" * 97, "a b", "a\nb", 'a"b', "ä", "\x00"])
def test_a_name_that_could_break_a_line_is_no_label(value: str):
    """Only plain names of a bounded length are learned."""
    assert BoundedLabel(5).learn(value) == "other"


@pytest.mark.parametrize("model", [None, 7, ["m"], "sk-canary key", "x" * 500])
def test_a_model_that_is_no_plain_name_is_nowhere(model: object):
    """A client may put anything there: only what looks like a name is kept."""
    desk = Desk()
    seen = desk.observer.begin("req_1")
    seen.asked(model, stream=False)
    assert seen.model is None


def test_watching_costs_microseconds():
    """Bounds wide enough for a loaded machine: far above what is measured, far below what would be a bug."""
    desk = Desk("troubled")
    stream = desk.begin(stream=True)
    started = time.process_time()
    per_read = timeit.timeit(lambda: stream.tokens(1), timer=time.process_time, number=20_000) / 20_000
    assert per_read < 2e-6

    def request() -> None:
        seen = desk.begin(stream=True)
        seen.attempt("a")
        seen.tokens(1)
        seen.ended(OK, 200)

    per_request = timeit.timeit(request, timer=time.process_time, number=2_000) / 2_000
    assert per_request < 60e-6
    assert time.process_time() > started
