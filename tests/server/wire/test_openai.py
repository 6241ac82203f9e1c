from typing import Any

import pytest

from server.errors import BadRequest, WireError
from server.wire.jsonbody import dump, parse_object
from server.wire.openai import (
    check_generation,
    read_chunk,
    read_error,
    read_refusal,
    upstream_stream,
    upstream_unary,
)


@pytest.mark.parametrize(
    ("kind", "body", "most"),
    [
        ("chat", {"max_tokens": 5}, 5),
        ("chat", {"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ("chat", {}, None),
        ("completions", {"max_tokens": 5}, 5),
        ("completions", {}, 16),
    ],
)
def test_the_limit_on_tokens_is_known(kind: Any, body: dict[str, Any], most: int | None) -> None:
    """A resume must know how many tokens are left, so a default is made explicit."""
    assert check_generation(kind, body).max_tokens == most


@pytest.mark.parametrize(
    ("body", "choices"),
    [({}, 1), ({"n": 3}, 3), ({"prompt": [1, 2]}, 1), ({"prompt": ["a", "b"], "n": 2}, 4)],
)
def test_choices_are_counted(body: dict[str, Any], choices: int) -> None:
    """A batch of prompts has a choice for each."""
    assert check_generation("completions", body).choices == choices


def test_an_engine_is_asked_for_ids_and_usage() -> None:
    """The client's own options stay."""
    asked = {"prompt": "x", "model": "m", "stream_options": {"other": 1}}
    sent = parse_object(upstream_stream("completions", asked))
    assert sent == {
        "prompt": "x",
        "model": "m",
        "stream": True,
        "return_token_ids": True,
        "stream_options": {"other": 1, "include_usage": True},
    }


@pytest.mark.parametrize(("model", "sent"), [("tgi", False), ("dummy", False), ("llama", True), (None, True)])
def test_names_for_whatever_is_served_are_left_out(model: str | None, sent: bool) -> None:
    """TGI has one model and ignores its name; so its clients send anything."""
    body = parse_object(upstream_unary(check_generation("chat", {"model": model})))
    assert ("model" in body) is sent


def test_a_lone_surrogate_survives() -> None:
    """JSON may hold what UTF-8 cannot."""
    assert dump(parse_object(b'{"prompt": "\\ud83d"}')) == b'{"prompt":"\\ud83d"}'


@pytest.mark.parametrize(
    "raw", [b"", b"1", b'"x"', b"null", b"{", b'{"a": Infinity}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_json_object_is_refused_without_quoting_it(raw: bytes) -> None:
    """The complaint holds nothing of what was sent."""
    with pytest.raises(BadRequest) as refused:
        parse_object(raw)
    assert "Infinity" not in refused.value.message


@pytest.mark.parametrize(("depth", "fine"), [(32, True), (33, False)])
def test_json_is_as_deep_as_allowed(depth: int, fine: bool) -> None:
    """Nesting is capped before anything walks it."""
    raw = b'{"a":' * depth + b"1" + b"}" * depth
    if fine:
        assert parse_object(raw)
        return
    with pytest.raises(BadRequest, match="nested"):
        parse_object(raw)


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": 1},
        {"choices": [1]},
        {"choices": [{"delta": 1}]},
        {"choices": [{"delta": {"content": 1}}]},
    ],
)
def test_a_chunk_that_is_not_openai_s_is_an_error(chunk: dict[str, Any]) -> None:
    """An engine that speaks something else is not relayed."""
    with pytest.raises(WireError):
        read_chunk("chat", chunk)


@pytest.mark.parametrize(
    ("error", "code", "about_the_request"),
    [
        ({"code": "node_draining", "type": "server_error"}, "node_draining", False),
        ({"code": 400, "type": "BadRequestError", "message": "too long"}, "400", True),
        ({"code": 500, "type": "InternalServerError"}, "500", False),
        ({"code": "x", "type": "invalid_request_error"}, "x", True),
        ("boom", "None", False),
    ],
)
def test_an_error_event_is_about_the_request_or_the_node(
    error: Any, code: str, about_the_request: bool
) -> None:
    """Only a refusal of the request itself ends a stream that could be resumed."""
    found = read_error({"error": error})
    assert found is not None
    assert (found.code, found.refusal is not None) == (code, about_the_request)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"error": {"message": 5}}'])
def test_a_refusal_in_no_known_shape_is_not_relayed(raw: bytes) -> None:
    """What an engine says outside OpenAI's envelope stays inside."""
    refusal = read_refusal(400, raw)
    assert (refusal.status, refusal.code) == (400, "invalid_request")
    assert "text" not in refusal.message
