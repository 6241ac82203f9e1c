"""What a caller gives: what makes no sense sends nothing."""

from __future__ import annotations

from typing import Any

import pytest
from goldenfleet_client import (
    Client,
    ConfigurationError,
    Timeouts,
)


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
