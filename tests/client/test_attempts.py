"""Attempts that fail before anything useful came: what is tried again, when, and how often."""

from __future__ import annotations

import gzip
import json
import os
import socket
from contextlib import suppress
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from goldenfleet_client import (
    Client,
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    GaveUp,
    InvalidRequest,
    NotAuthorised,
    RateLimited,
    RequestRefused,
    Retried,
    RetryPolicy,
    ServerFailed,
    StreamTruncated,
    Timeouts,
)

from server.app import DEADLINE_HEADER


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


def test_an_unknown_host(callers: Any) -> None:
    """A name without an address is a failed connection, not a foreign exception."""

    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    caller = callers("http://fleet.invalid", resolver=nowhere)
    assert isinstance(caller.outcome("models").error, ConnectionFailed)


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


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_the_deadline_ends_a_silent_call(callers: Any, service: Any, acts: Any, streamed: bool) -> None:
    """A service that never answers costs the deadline and no more; the connection is closed."""
    service.then(acts.silence)
    caller = callers(service.url, timeouts=Timeouts(total=0.3))
    started = time()
    outcome = caller.read() if streamed else caller.outcome("generate", "x")
    assert isinstance(outcome.error, DeadlineExceeded)
    assert 0.25 < time() - started < 2.0
    assert service.connections[0].left.wait(5)


def test_the_deadline_ends_a_stream_in_its_middle(callers: Any, service: Any, acts: Any) -> None:
    """The deadline holds inside a body, whatever the limit on silence; what was received is kept."""
    service.then(acts.speak(events=4, cut=acts.silence))
    outcome = callers(service.url, timeouts=Timeouts(total=0.4)).read()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert outcome.error.text == "Der Mond ist auf"


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


def test_a_redirection_is_not_followed(caller: Any, service: Any, acts: Any) -> None:
    """The key and the prompt go nowhere else; the error names the place."""
    service.then(acts.answer(301, b"", "location: https://llm.example/"))
    assert "https://llm.example/: name that as base_url" in str(caller.outcome("generate", "x").error)
    assert len(service.seen) == 1


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


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_the_deadline_ends_what_never_pauses(callers: Any, service: Any, acts: Any, streamed: bool) -> None:
    """An answer whose pieces come without a pause is no exception to the deadline."""
    now = [0.0]

    def late(connection: Any, seen: Any) -> bool:
        now[0] = 9.0
        return acts.speak()(connection, seen) if streamed else acts.whole(connection, seen)

    service.then(late)
    caller = callers(service.url, timeouts=Timeouts(total=8.0), clock=lambda: now[0])
    outcome = caller.read() if streamed else caller.outcome("generate", "x")
    assert isinstance(outcome.error, DeadlineExceeded)


def test_the_deadline_ends_retries(callers: Any, service: Any, acts: Any) -> None:
    """No attempt is begun, and none waited for, past the deadline."""
    service.then(acts.refuse(503, "retry-after: 5"))
    outcome = callers(service.url, timeouts=Timeouts(total=1.0)).outcome("generate", "x")
    assert isinstance(outcome.error, ServerFailed)
    assert "deadline" in str(outcome.error)
    assert len(service.seen) == 1


def test_the_deadline_travels(callers: Any, service: Any, acts: Any) -> None:
    """Each attempt says how many milliseconds are left, where the gateway looks for it; later ones fewer."""
    service.then(acts.refuse(503, "retry-after-ms: 30"), acts.whole)
    callers(service.url, timeouts=Timeouts(total=20.0)).call("generate", "x")
    first, second = [int(seen.headers[DEADLINE_HEADER]) for seen in service.seen]
    assert 20_000 >= first >= second + 30 > 19_000


def test_a_retry_goes_to_another_address(callers: Any, services: Any, acts: Any) -> None:
    """Where the name has several addresses, the next attempt goes to one not yet tried."""
    first = services("127.0.0.21").then(acts.refuse(503))
    second = services("127.0.0.22", first.port).then(acts.whole)
    caller = callers(f"http://fleet.test:{first.port}", resolver=lambda *_: ["127.0.0.21", "127.0.0.22"])
    assert caller.outcome("generate", "x").result.attempts == 2
    assert [len(first.seen), len(second.seen)] == [1, 1]
    assert second.seen[0].headers["host"] == f"fleet.test:{first.port}"


def test_a_resume_goes_to_another_address(callers: Any, services: Any, acts: Any) -> None:
    """So does the continuation of a stream."""
    first = services("127.0.0.23").then(acts.speak(events=2, cut=acts.reset))
    second = services("127.0.0.24", first.port).then(acts.speak())
    caller = callers(f"http://fleet.test:{first.port}", resolver=lambda *_: ["127.0.0.23", "127.0.0.24"])
    assert caller.read().text == acts.text
    assert len(second.seen) == 1


def test_a_refused_address_costs_nothing(callers: Any, services: Any, acts: Any) -> None:
    """Nothing was sent to an address that refuses: the next one is asked without wait or budget, and the
    refusing one is avoided by later calls."""
    alive = services("127.0.0.25").then(acts.whole)
    caller = callers(
        f"http://fleet.test:{alive.port}",
        resolver=lambda *_: ["127.0.0.26", "127.0.0.27", "127.0.0.25"],
        budget_minimum=0,
    )
    assert caller.outcome("generate", "x").result.attempts == 3
    assert caller.outcome("generate", "x").result.attempts == 1
    assert waits(caller) == [0.0, 0.0]


def test_first_attempts_share_a_connection(caller: Any, service: Any, acts: Any) -> None:
    """Calls that go well use one connection, streams included."""
    service.then(acts.whole, acts.speak(), acts.whole)
    caller.call("generate", "x")
    caller.read()
    caller.call("generate", "x")
    assert [seen.connection for seen in service.seen] == [0, 0, 0]


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


def test_a_base_url_with_a_path(callers: Any, service: Any, acts: Any) -> None:
    """Requests go below it, whether or not it ends in /v1, and answers may be compressed by what is there."""
    whole = {"choices": [{"text": "so", "finish_reason": "stop"}]}
    service.then(acts.answer(200, gzip.compress(json.dumps(whole).encode()), "content-encoding: gzip"))
    for end in ("/llm", "/llm/", "/llm/v1", "/llm/v1/"):
        assert callers(service.url + end).call("generate", "x").text == "so"
    assert {seen.path for seen in service.seen} == {"/llm/v1/completions"}


def test_an_ipv6_address(callers: Any, services: Any, acts: Any) -> None:
    """A literal one is asked, and named in Host, in brackets; a name may have one beside an IPv4 address."""
    six = services("::1").then(acts.refuse(503), acts.whole)
    four = services("127.0.0.28", six.port).then(acts.whole)
    assert callers(f"http://[::1]:{six.port}", budget_minimum=9).call("generate", "x").attempts == 2
    assert {seen.headers["host"] for seen in six.seen} == {f"[::1]:{six.port}"}
    six.then(acts.refuse(503))
    caller = callers(f"http://fleet.test:{six.port}", resolver=lambda *_: ["::1", "127.0.0.28"])
    assert caller.call("generate", "x").attempts == 2
    assert [len(four.seen), four.seen[0].headers["host"]] == [1, f"fleet.test:{six.port}"]


@pytest.mark.parametrize("before", [0, 1])
def test_every_connection_finds_out_that_an_instance_vanished(
    callers: Any, service: Any, acts: Any, before: int
) -> None:
    """In half a minute, whether it waits for an answer or for a request to be acknowledged (tcp(7))."""
    found: list[tuple[int, int]] = []

    def look(connection: Any, seen: Any) -> bool:
        with _our_end(connection.sock.getpeername()) as end:
            keepalive = end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            found.append((keepalive, end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))
        return bool(acts.whole(connection, seen))

    service.then(*[acts.reset] * before, look)
    callers(service.url).call("generate", "x")
    assert found == [(1, 30_000)]


def _our_end(name: object) -> socket.socket:
    """The socket of this process that has this name."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            end = socket.socket(fileno=os.dup(number))
            if end.getsockname() == name:
                return end
            end.close()
    raise AssertionError(f"no socket is {name}")


def test_models(caller: Any, service: Any, acts: Any) -> None:
    """The list of models, by id."""
    service.then(acts.answer(200, {"data": [{"id": "a", "owned_by": "us"}, {"id": "b"}]}))
    assert [(model.id, model.owned_by) for model in caller.call("models")] == [("a", "us"), ("b", None)]


def test_the_key_is_sent_and_not_shown(callers: Any, service: Any, acts: Any) -> None:
    """The key goes out as a bearer token and into no message."""
    service.then(acts.refuse(401))
    caller = callers(service.url, api_key="sk-secret")
    error = caller.outcome("generate", "x").error
    assert service.seen[0].headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in f"{error} {error!r} {caller.client!r} {caller.events}"


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"extra": {"n": 2}},
        {"extra": {"stream": False}},
        {"maxtokens": 3},
        {"model": ""},
        {"extra": {"user": object()}},
        {"temperature": float("nan")},
        {"stop": ["\ud800"]},
        {"request_id": "a\r\nhost: b"},
    ],
)
def test_wrong_calls_send_nothing(caller: Any, service: Any, options: Any) -> None:
    """A call that cannot mean anything is refused before anything is sent."""
    assert isinstance(caller.outcome("generate", "x", **options).error, ConfigurationError)
    assert service.seen == []


@pytest.mark.parametrize("prompt", [b"Hello", bytearray(b"a"), ["Hello"], [], None, [1.0], 5])
def test_prompts_that_are_none(caller: Any, service: Any, prompt: Any) -> None:
    """Bytes are no token ids, though they are numbers; nothing is no prompt."""
    assert isinstance(caller.outcome("generate", prompt).error, ConfigurationError)
    assert service.seen == []


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan"), 1e12, None, "5"])
@pytest.mark.parametrize("name", ["connect", "first_token", "read", "total"])
def test_times_that_no_clock_can_keep(name: str, seconds: Any) -> None:
    """They are refused by name where they are said, and not in the middle of a call."""
    with pytest.raises(ConfigurationError, match=f"Timeouts.{name}"):
        Timeouts(**{name: seconds})


@pytest.mark.parametrize("messages", ["Hello", [1], ["Hello"], None])
def test_messages_that_are_none(caller: Any, service: Any, messages: Any) -> None:
    """So is a chat whose messages are no messages."""
    assert isinstance(caller.outcome("chat", messages).error, ConfigurationError)
    assert service.seen == []


@pytest.mark.parametrize("key", ["", "sk-\n", " sk", "sk-ключ", "sk\x00"])
def test_keys_that_no_header_can_hold(callers: Any, key: str) -> None:
    """Such a key is refused when the client is made, and not shown."""
    with pytest.raises(ConfigurationError) as refused:
        callers("http://127.0.0.1:1", api_key=key)
    assert "sk" not in str(refused.value).replace("api_key", "")


def test_a_closed_client(service: Any) -> None:
    """A client that was closed says so, and sends nothing."""
    client = Client(service.url, model="m")
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.generate("x")
    assert service.seen == []


@pytest.mark.parametrize("url", ["fleet", "ftp://x", "http://", "http://x/v1?version=2", "http://x/#v1"])
def test_wrong_addresses(callers: Any, url: str) -> None:
    """A base URL that is none is refused when the client is made."""
    with pytest.raises(ConfigurationError):
        callers(url)
