"""The pure parts: events out of bytes, waits, the budget, refusals, addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from goldenfleet_client import ConfigurationError, RetryPolicy
from goldenfleet_client._addresses import Addresses, Route
from goldenfleet_client._calls import Request, generation
from goldenfleet_client._retry import RetryBudget, backoff_s, error_event, refusal, retry_after_s
from goldenfleet_client._sse import SseDecoder
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
STREAM = ": ping\n\nid: 3\r\nevent: x\ndata: ä\ndata:  b\r\n\r\nretry: 5\n\ndata:{}\n\ndata: rest".encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_bytes_arrive(cuts: list[int]) -> None:
    """However the bytes are split, the same complete events come out, and nothing of an incomplete one."""
    edges = [0, *sorted(cuts), len(STREAM)]
    decoder = SseDecoder()
    events = [e for a, b in pairwise(edges) for e in decoder.feed(STREAM[a:b])]
    assert events == ["ä\n b", "{}"]
    assert decoder.junk is None


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@given(cut=st.integers(0, 22))
def test_every_line_ending_and_a_byte_order_mark(end: bytes, cut: int) -> None:
    """As the standard has them (WHATWG HTML, 9.2.6), each event as soon as its last byte is there."""
    stream = b"\xef\xbb\xbf" + b"data: 1" + 2 * end + b"data:2" + 2 * end
    decoder = SseDecoder()
    assert [e for piece in (stream[:cut], stream[cut:]) for e in decoder.feed(piece)] == ["1", "2"]
    assert decoder.junk is None


def test_a_prompt_of_a_million_tokens() -> None:
    """Its ids are one event of 8 MB, and no junk."""
    event, decoder = b"data: [" + b"128000, " * 1_000_000 + b"0]\n\n", SseDecoder()
    pieces = (event[at : at + 65536] for at in range(0, len(event), 65536))
    assert [len(data) for piece in pieces for data in decoder.feed(piece)] == [len(event) - 8]


@pytest.mark.parametrize("piece", [b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"])
def test_an_event_without_end_is_junk(piece: bytes) -> None:
    """A body without line ends, or without the empty ones that end events, does not grow for ever."""
    decoder = SseDecoder()
    for _ in range(300):
        assert list(decoder.feed(piece)) == []
        if decoder.junk:
            break
    assert decoder.junk is not None


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_bounded(failures: int, chance: float) -> None:
    """However many failures, a wait stays between nothing and the cap."""
    assert 0 <= backoff_s(RetryPolicy(), failures, chance) <= 5.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 -0000"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 +99999999999999999999"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Both headers in every form; nonsense counts as absent."""
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    "envelope", [None, [], "x", {"error": None}, {"error": "text"}, {"error": {"code": 5}}]
)
def test_any_error_body_is_read(envelope: object) -> None:
    """Whatever a refusal's body holds, its status decides."""
    assert refusal(503, {}, envelope, NOW).retryable
    assert "None" not in refusal(503, {}, envelope, NOW).detail
    assert not refusal(404, {}, envelope, NOW).retryable


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        ({"type": "server_error", "code": "node_draining"}, True),
        ({"type": None, "code": "node_draining"}, True),
        ({"type": "server_error", "code": None}, True),
        ({"code": 502}, True),
        ({"type": "server_error", "code": "resume_unsupported"}, False),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, False),
        ({"code": 404}, False),
    ],
)
def test_errors_inside_streams(error: dict[str, object], retryable: bool) -> None:
    """A server's trouble is a cut; a request's own fault is final."""
    assert error_event({"error": error}).retryable is retryable


def test_the_budget_forgets() -> None:
    """Retries become possible again when earlier ones leave the window."""
    now = [0.0]
    budget = RetryBudget(lambda: now[0], minimum=2, window_s=10.0)
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    now[0] = 9.9
    assert not budget.withdraw()
    now[0] = 10.1
    assert budget.withdraw()


def test_a_long_healthy_run_is_forgotten() -> None:
    """What the budget remembers does not grow while nothing fails: old calls allow no retries."""
    now = [0.0]
    budget = RetryBudget(lambda: now[0], minimum=0, window_s=10.0)
    for _ in range(1000):
        now[0] += 1.0
        budget.count_request()
    assert budget.remembered == 10
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]


@given(st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_a_route_tries_every_address_once(count: int, chance: float) -> None:
    """No address is tried twice before all were tried, and the shunned ones come last."""
    addresses = [f"127.0.0.{n}" for n in range(count)]
    route = Route()
    tried = [route.choose(addresses, {addresses[0]}, chance) for _ in range(count)]
    assert sorted(tried) == addresses
    assert tried[-1] == addresses[0]
    assert not route.others_left(addresses)
    assert route.choose(addresses, set(), chance) in addresses


def test_address_families_take_turns() -> None:
    """Where one family leads nowhere, the second attempt finds out; the system's first family begins."""
    addresses = ["fd00::1", "fd00::2", "127.0.0.1", "127.0.0.2"]
    route = Route()
    tried = [route.choose(addresses, set(), 0.9) for _ in addresses]
    assert tried == ["fd00::2", "127.0.0.2", "fd00::1", "127.0.0.1"]
    assert Route().choose(addresses, {"fd00::1", "fd00::2"}, 0.0) == "127.0.0.1"


def test_a_request_says_what_was_asked_and_no_more() -> None:
    """Options that nobody gave are not sent; only streams ask for usage and ids; one token is enough."""
    told = [{"role": "user", "content": "x"}]
    fixed: dict[str, Any] = {"model": "m", "max_tokens": 1, "options": {"seed": 3, "stop": None}}
    whole = generation(**fixed, messages=told, stream=False, extra={"top_k": 4})
    asked = {"model": "m", "max_tokens": 1, "seed": 3}
    assert whole.path == "/v1/chat/completions"
    assert whole.body == {**asked, "messages": told, "top_k": 4, "stream": False}
    streamed = generation(**fixed, prompt=(1, 2), stream=True, extra={})
    assert streamed.path == "/v1/completions"
    assert streamed.body == {
        **asked,
        "prompt": [1, 2],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    with pytest.raises(ConfigurationError, match="at least 1"):
        generation(**{**fixed, "max_tokens": 0}, prompt="x", stream=True, extra={})
    assert Request("GET", "/v1/models").content() == b""


def test_addresses_are_known_and_shunned_for_a_while() -> None:
    """Names for 10 s, a gateway that refused for 30 s; an address is known for ever, whatever is resolved."""
    now = [0.0]
    named = Addresses("llm.test", 80, lambda _host, _port: ["127.0.0.1", "127.0.0.2"], lambda: now[0])
    literal = Addresses("127.0.0.3", 80, lambda _host, _port: [], lambda: now[0])
    assert (named.kept(), literal.kept()) == ([], ["127.0.0.3"])
    assert named.look_up() == ["127.0.0.1", "127.0.0.2"]
    named.shun("127.0.0.1")
    known, shunned = [], []
    for now[0] in (9.9, 10.0, 29.9, 30.0):
        known.append(len(named.kept()))
        shunned.append(len(named.shunned()))
    assert (known, shunned) == ([2, 0, 0, 0], [1, 1, 1, 0])
    assert literal.kept() == ["127.0.0.3"]


def test_a_resolver_that_fails_for_a_moment() -> None:
    """Addresses that were good serve until others are told; without any, the failure is the caller's."""
    now, answers = [0.0], [["127.0.0.1"], OSError("try again"), [], ["127.0.0.2"]]

    def resolve(_host: str, _port: int) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    addresses = Addresses("llm.test", 80, resolve, lambda: now[0])
    found = []
    for _ in range(4):
        found.append(addresses.look_up())
        now[0] += 60.0
        assert addresses.kept() == []
    assert found == [["127.0.0.1"]] * 3 + [["127.0.0.2"]]
    with pytest.raises(OSError, match="no address"):
        Addresses("llm.test", 80, lambda _host, _port: [], lambda: 0.0).look_up()
