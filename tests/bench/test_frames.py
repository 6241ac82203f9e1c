import json
from typing import Any

import pytest

from bench.answers import dechunked
from bench.frames import STREAM_HEAD, Frames, Kind, Shape, unary
from bench.tokens import Prompt, text_of, token_id


def events(body: bytes) -> list[Any]:
    found = [event.removeprefix(b"data: ") for event in dechunked(STREAM_HEAD + body).split(b"\n\n") if event]
    return [event.decode() if event == b"[DONE]" else json.loads(event) for event in found]


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_every_event_is_one_of_openais(kind: Kind, with_ids: bool) -> None:
    """Events that were pieced together are the JSON that an engine would have written for each token."""
    frames = Frames(Shape(kind, 5, with_ids))
    [chunk] = events(frames.some(12, 1))
    [choice] = chunk["choices"]

    assert chunk["object"] == ("chat.completion.chunk" if kind == "chat" else "text_completion")
    assert (choice["delta"]["content"] if kind == "chat" else choice["text"]) == " 5.12"
    assert choice.get("token_ids") == ([token_id(12)] if with_ids else None)
    assert choice["finish_reason"] is None


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_the_prompts_ids_are_where_vllm_has_them(kind: Kind) -> None:
    """At the top of a chat's first chunk, in the choice of a completion's, and in no other chunk."""
    frames = Frames(Shape(kind, 5, with_ids=True))
    first, *others = events(frames.opening([1, 2]) + frames.first([1, 2]) + frames.some(3, 2))

    holder = first if kind == "chat" else first["choices"][0]
    assert holder["prompt_token_ids"] == [1, 2]
    assert not any("prompt_token_ids" in json.dumps(other) for other in others)


def test_a_stream_ends_with_its_finish_reason_usage_and_done() -> None:
    """Nothing is missing that a client waits for."""
    *_, last, usage, done = events(
        Frames(Shape("completions", 5, with_ids=False)).ending(9, 4, 6, usage=True)
    )

    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["usage"] == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}
    assert done == "[DONE]"


def test_a_plain_answer_says_what_a_stream_says() -> None:
    """The same prompt gets the same text either way."""
    answer = json.loads(dechunked(unary(Shape("completions", 5, with_ids=True), Prompt(5, [1, 2, 3]), 4)))

    assert answer["choices"][0]["text"] == text_of(5, 3, 4)
    assert answer["choices"][0]["token_ids"] == [token_id(3 + n) for n in range(4)]
