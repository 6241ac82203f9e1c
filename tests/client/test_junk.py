"""Whatever a service says, a caller gets an answer or one of the library's own errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from goldenfleet_client import (
    ConnectionFailed,
    Generation,
    GoldenfleetError,
    RetryPolicy,
    ServerFailed,
    Timeouts,
)
from goldenfleet_client._answers import parse_generation, parse_models
from goldenfleet_client._calls import Request, generation
from goldenfleet_client._plan import (
    BodyEnd,
    Emit,
    Head,
    Means,
    Read,
    Script,
    Send,
    stream,
    unary,
)
from goldenfleet_client._retry import Failure, RetryBudget
from goldenfleet_client._tgi import ChatAccount, TokenAccount
from goldenfleet_client._transcript import Account, Transcript
from hypothesis import given, settings
from hypothesis import strategies as st
from text_generation.types import ChatCompletionChunk, StreamResponse

_KEYS = st.sampled_from(
    [
        *("choices", "delta", "content", "text", "finish_reason", "usage", "token_ids", "prompt_token_ids"),
        *("prompt_tokens", "completion_tokens", "token", "id", "special", "generated_text", "details"),
        *("generated_tokens", "index", "error", "error_type", "message", "type", "code", "data", "role"),
        *("object", "created", "model", "system_fingerprint"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=8,
)
_TOKEN = st.fixed_dictionaries(
    {
        "token": st.fixed_dictionaries(
            {"id": _VALUES, "text": st.text(max_size=3) | _VALUES, "special": st.booleans()}
        )
    },
    optional={"generated_text": _VALUES, "details": _VALUES, "index": _VALUES, "prompt_token_ids": _VALUES},
)
_CHOICE = st.fixed_dictionaries(
    {"choices": st.lists(st.dictionaries(_KEYS, _VALUES, max_size=4), min_size=1, max_size=2)},
    optional={"id": _VALUES, "created": _VALUES, "usage": _VALUES},
)
_EVENTS = st.lists(_VALUES | _TOKEN | _CHOICE, max_size=6)


def _request() -> Request:
    return generation(model="m", prompt="p", max_tokens=5, stream=True, options={"stop": ["ab"]}, extra={})


@pytest.mark.parametrize("kind", ["tokens", "chat", "openai"])
@settings(max_examples=60)
@given(events=_EVENTS)
def test_no_event_breaks_an_account(kind: str, events: list[Any]) -> None:
    """Any JSON is taken in or called junk, and a continuation can be asked for at any time."""
    accounts: dict[str, Account] = {
        "tokens": TokenAccount("p", {"max_new_tokens": 5, "stop": ["ab"]}, StreamResponse),
        "chat": ChatAccount(_request(), ChatCompletionChunk),
        "openai": Transcript(_request()),
    }
    account = accounts[kind]
    for event in events:
        account.begin_attempt()
        taken = account.take(json.dumps(event))
        assert isinstance(taken, Failure | list | tuple)
        account.end_if_full()
        if account.why_not_continuable() is None:
            assert account.continuation().content()


def _means() -> Means:
    return Means(
        clock=lambda: 0.0,
        today=lambda: datetime.now(UTC),
        random=lambda: 0.0,
        budget=RetryBudget(lambda: 0.0),
        policy=RetryPolicy(retries=2, resumes=3),
        timeouts=Timeouts(),
        headers={},
        request_id="r",
    )


def _play(script: Script[Any], head: Head, pieces: list[bytes]) -> Any:
    """What comes of a script whose every attempt is answered so."""
    reply: Any = None
    left: list[bytes] = []
    try:
        while True:
            match script.send(reply):
                case Send():
                    reply, left = head, list(pieces)
                case Read():
                    reply = left.pop(0) if left else BodyEnd()
                case Emit(piece):
                    assert piece
                    reply = None
                case _:
                    reply = None
    except StopIteration as end:
        return end.value
    except GoldenfleetError as error:
        return error


_BODIES = st.lists(
    st.binary(max_size=30)
    | _EVENTS.map(lambda events: b"".join(map(_frame, events)))
    | st.just(b"data: [DONE]\n\n"),
    max_size=5,
)
_HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "content-type"]), st.text(max_size=8)
)


def _frame(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@given(
    pieces=_BODIES, status=st.sampled_from([200, 200, 200, 204, 302, 400, 429, 503, 599]), headers=_HEADERS
)
def test_no_stream_ends_in_a_foreign_exception(
    pieces: list[bytes], status: int, headers: dict[str, str]
) -> None:
    """Any bytes under any status: a generation with a finish reason, or an error of ours; never for ever."""
    said = _play(stream(_means(), _request()), Head(status, headers), pieces)
    assert isinstance(said, Generation | GoldenfleetError)
    assert not isinstance(said, Generation) or said.finish_reason


@given(body=st.binary(max_size=60) | _VALUES.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("parse", [parse_generation, parse_models])
def test_no_answer_ends_in_a_foreign_exception(parse: Any, body: bytes) -> None:
    """So with whole answers."""
    said = _play(unary(_means(), Request("GET", "/"), parse), Head(200, {}), [body])
    assert isinstance(said, Generation | tuple | ServerFailed | ConnectionFailed)
