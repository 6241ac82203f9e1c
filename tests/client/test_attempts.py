"""Attempts that fail before anything useful came: what is tried again, when, and how often."""

from __future__ import annotations

import socket
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from goldenfleet_client import (
    ConnectionFailed,
    GaveUp,
    InvalidRequest,
    NotAuthorised,
    RateLimited,
    RequestRefused,
    Retried,
    RetryPolicy,
    ServerFailed,
    StreamTruncated,
)


def waits(caller: Any) -> list[float]:
    return [event.wait_s for event in caller.events if isinstance(event, Retried)]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", ["reset", "close", "503", "500", "429", "408", "529", "html 502", "asked"])
def test_passing_trouble(caller: Any, service: Any, acts: Any, name: str, streamed: bool) -> None:
    """Trouble that another attempt may not meet is tried again, under the same request id."""
    trouble = {
        "reset": acts.reset,
        "close": acts.close,
        "html 502": acts.answer(502, b"<html>Bad Gateway</html>"),
        "asked": acts.refuse(400, "x-should-retry: true"),
    }
    act = trouble.get(name) or acts.refuse(int(name))
    service.then(act, act, acts.speak() if streamed else acts.whole)
    outcome = caller.read() if streamed else caller.outcome("generate", "Sing!")
    assert outcome.error is None
    assert outcome.result.text == acts.text
    assert (outcome.result.attempts, outcome.result.resumes) == (3, 0)
    assert len({seen.headers["x-request-id"] for seen in service.seen}) == 1
    assert len({seen.connection for seen in service.seen}) == 3


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (400, (), InvalidRequest),
        (404, (), InvalidRequest),
        (413, (), InvalidRequest),
        (401, (), NotAuthorised),
        (403, (), NotAuthorised),
        (409, (), RequestRefused),
        (302, ("location: /elsewhere",), RequestRefused),
        (501, (), ServerFailed),
        (503, ("x-should-retry: false",), ServerFailed),
        (429, ("x-should-retry: false",), RateLimited),
        (503, ("retry-after: 300",), ServerFailed),
        (429, (f"retry-after: {formatdate(time() + 400, usegmt=True)}",), RateLimited),
    ],
)
def test_final_answers(
    caller: Any, service: Any, acts: Any, status: int, headers: tuple[str, ...], error: Any, streamed: bool
) -> None:
    """What asking again would not change, or only after too long, is raised at once, with what was said."""
    service.then(acts.refuse(status, *headers, code="why"))
    outcome = caller.read() if streamed else caller.outcome("chat", [{"role": "user", "content": "x"}])
    assert type(outcome.error) is error
    assert (outcome.error.status, outcome.error.code, outcome.error.attempts) == (status, "why", 1)
    assert len(service.seen) == 1
    assert isinstance(caller.events[-1], GaveUp)


def test_an_answer_that_ends_with_a_full_stop_is_told_with_one_mark_only(
    caller: Any, service: Any, acts: Any
) -> None:
    """Services speak in sentences, and what was tried is told behind them."""
    service.then(acts.answer(404, acts.error("There is no such model.", "why")))
    outcome = caller.outcome("chat", [{"role": "user", "content": "x"}])
    assert "There is no such model; asking again would not help" in str(outcome.error)


@pytest.mark.parametrize(
    ("header", "least"),
    [("retry-after-ms: 30", 0.03), ("retry-after: 0.04", 0.04), ("retry-after: nonsense", 0.0)],
)
def test_the_asked_wait(caller: Any, service: Any, acts: Any, header: str, least: float) -> None:
    """The service's own wait is kept, by whichever header it comes."""
    service.then(acts.refuse(503, header, "x-should-retry: true"), acts.whole)
    assert caller.outcome("generate", "x").result.attempts == 2
    assert waits(caller) == [pytest.approx(least)]


def test_retry_after_ms_comes_first(caller: Any, service: Any, acts: Any) -> None:
    """Of two headers the finer one counts."""
    service.then(acts.refuse(503, "retry-after: 50", "retry-after-ms: 20"), acts.whole)
    assert caller.outcome("generate", "x").error is None
    assert waits(caller) == [pytest.approx(0.02)]


def test_the_longest_wait_is_measured_by_what_was_asked(callers: Any, service: Any, acts: Any) -> None:
    """A wait at the limit is kept whatever chance adds to it; a gateway asks for up to the default limit."""
    service.then(acts.refuse(503, "retry-after: 0.02"), acts.whole)
    caller = callers(service.url, random=lambda: 0.99, retry=RetryPolicy(longest_wait_s=0.02))
    assert caller.outcome("generate", "x").error is None
    assert waits(caller) == [pytest.approx(0.02 * 1.2475)]


def test_waits_are_drawn_from_a_doubling_range(callers: Any, service: Any, acts: Any) -> None:
    """Full jitter: each wait is a share of a range that doubles up to its cap."""
    service.then(acts.refuse(503))
    policy = RetryPolicy(retries=5, base_s=0.01, cap_s=0.05)
    caller = callers(service.url, random=lambda: 0.5, retry=policy, budget_minimum=9)
    assert isinstance(caller.outcome("generate", "x").error, ServerFailed)
    assert waits(caller) == pytest.approx([0.005, 0.01, 0.02, 0.025, 0.025])


def test_a_dead_service_is_given_up(callers: Any, closed_port: int) -> None:
    """Refused connections are tried so often and no more."""
    caller = callers(f"http://127.0.0.1:{closed_port}", budget_minimum=9)
    outcome = caller.outcome("generate", "x")
    assert isinstance(outcome.error, ConnectionFailed)
    assert outcome.error.attempts == 5
    assert outcome.error.__cause__ is not None


def test_the_budget_is_shared_by_the_client(caller: Any, service: Any, acts: Any) -> None:
    """With the service down, ten calls cause ten requests and the budget's three retries, no more."""
    service.then(acts.refuse(503))
    errors = [caller.outcome("generate", "x").error for _ in range(10)]
    assert all(isinstance(error, ServerFailed) for error in errors)
    assert len(service.seen) == 13
    assert "budget" in str(errors[-1])


def test_the_budget_grows_with_use(callers: Any, service: Any, acts: Any) -> None:
    """A fifth of the requests of the window may be retries."""
    caller = callers(service.url, budget_minimum=0)
    service.then(*[acts.whole] * 40, acts.refuse(503))
    for _ in range(40):
        caller.call("generate", "x")
    for _ in range(5):
        caller.outcome("generate", "x")
    assert len(service.seen) == 45 + 9


def test_resumes_are_not_charged_to_the_budget(callers: Any, service: Any, acts: Any) -> None:
    """To go on with a cut stream repeats no work: it needs no budget."""
    service.then(acts.speak(events=3, cut=acts.reset), acts.speak())
    assert callers(service.url, budget_minimum=0, budget_ratio=0.0).read().text == acts.text


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("how", ["reset", "close", "draining"])
def test_a_lost_gateway_is_not_charged_to_the_budget(
    callers: Any, service: Any, acts: Any, how: str, streamed: bool
) -> None:
    """Calls that a gateway took with it go to another, however many they are; a sick service is charged."""
    lost = acts.refuse(503, code="node_draining") if how == "draining" else getattr(acts, how)
    service.then(lost, lost, acts.speak() if streamed else acts.whole, acts.refuse(503))
    caller = callers(service.url, budget_minimum=0, budget_ratio=0.0)
    outcome = caller.read() if streamed else caller.outcome("generate", "x")
    assert outcome.error is None
    assert "budget" in str(caller.outcome("generate", "x").error)


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("page", [b"", b"<html>Bad Gateway</html>", b"upstream connect error"])
def test_a_balancer_that_has_not_noticed_yet(
    callers: Any, service: Any, acts: Any, status: int, page: bytes
) -> None:
    """A balancer may send call after call to a gateway that is gone: patience for it is longer than for a
    service that speaks for itself, and the budget does not pay for it."""
    service.then(*[acts.answer(status, page)] * 12, acts.whole)
    assert callers(service.url, budget_minimum=0).call("generate", "x").attempts == 13


@pytest.mark.parametrize(
    "drain",
    [
        {"error": {"message": "x", "type": "server_error", "code": "node_draining"}},
        {"error": "x", "error_type": "overloaded"},
    ],
    ids=["OpenAI's words", "TGI's words"],
)
def test_a_gateway_that_drains_behind_a_balancer(
    callers: Any, service: Any, acts: Any, drain: dict[str, object]
) -> None:
    """So may a balancer with a gateway that drains: it is on its way out, like a lost one."""
    headers = ("x-goldenfleet-state: draining", "retry-after-ms: 1", "x-should-retry: true")
    service.then(*[acts.answer(503, drain, *headers)] * 12, acts.whole)
    assert callers(service.url, budget_minimum=0).call("generate", "x").attempts == 13


def test_a_balancer_that_never_notices(callers: Any, service: Any, acts: Any) -> None:
    """That patience ends; what was answered last is raised."""
    service.then(acts.answer(503, b""))
    error = callers(service.url, budget_minimum=0).outcome("generate", "x").error
    assert isinstance(error, ServerFailed)
    assert (error.status, error.attempts) == (503, 13)


def test_a_service_that_speaks_for_itself(callers: Any, service: Any, acts: Any) -> None:
    """An error envelope, or a request id, is a gateway's own: five attempts, and the budget pays."""
    service.then(*[acts.refuse(503)] * 5, acts.answer(503, b"", "x-request-id: r"))
    caller = callers(service.url, budget_minimum=8)
    assert [caller.outcome("generate", "x").error.attempts for _ in range(2)] == [5, 5]
    assert caller.outcome("generate", "x").error.attempts == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", {"choices": []}, {"choices": [{"text": "x"}]}, {"choices": [{"text": 3}]}]
)
def test_an_answer_that_makes_no_sense(caller: Any, service: Any, acts: Any, body: Any) -> None:
    """A 200 that holds no finished choice is never given out as one."""
    service.then(acts.answer(200, body))
    assert isinstance(caller.outcome("generate", "x").error, ServerFailed)


def test_a_json_answer_to_a_stream(caller: Any, service: Any, acts: Any) -> None:
    """A 200 without events is a cut, not an empty generation."""
    service.then(acts.answer(200, {"choices": [{"text": "x", "finish_reason": "stop"}]}))
    assert isinstance(caller.read().error, (ServerFailed, StreamTruncated))


def test_whole_answers(caller: Any, service: Any, acts: Any) -> None:
    """Text, finish reason and usage come out of completions and of chat."""
    service.then(acts.whole)
    for method, what in (("generate", "x"), ("chat", [{"role": "user", "content": "x"}])):
        result = caller.call(method, what, request_id="mine")
        assert (result.text, result.finish_reason, result.request_id) == (acts.text, "stop", "mine")
        assert result.usage.total_tokens == 15
    assert service.seen[0].body == {"model": "m", "prompt": "x", "max_tokens": 256, "stream": False}


def test_an_answer_that_was_all_thinking(caller: Any, service: Any, acts: Any) -> None:
    """A model that thinks, at its limit before it answered, has said nothing: that is an answer."""
    message = {"role": "assistant", "content": None, "reasoning": "Hm."}
    service.then(acts.answer(200, {"choices": [{"message": message, "finish_reason": "length"}]}))
    result = caller.call("chat", [{"role": "user", "content": "x"}])
    assert (result.text, result.finish_reason, result.attempts) == ("", "length", 1)


def test_an_answer_that_its_engine_gave_up(caller: Any, service: Any, acts: Any) -> None:
    """An engine that shuts down ends its answers as if they were whole: such a one is asked for again."""
    half = {"choices": [{"text": "Der Mond", "finish_reason": "abort"}]}
    service.then(acts.answer(200, half), acts.whole)
    assert caller.call("generate", "x").text == acts.text
