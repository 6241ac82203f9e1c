"""What is asked of the next node after a cut: pure tables."""

from typing import Any

import pytest

from server.engines import ADAPTERS, UNKNOWN
from server.errors import ResumeUnsupported
from server.record import Record
from server.resume import Leg, closing_chunks, finished_by_length, first_leg, next_leg, read, shape
from server.wire.openai import Kind, check_generation

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 10, "stream": True, "model": "m"}
COMPLETION = {"prompt": "hello", "max_tokens": 10, "stream": True, "temperature": 0.5, "seed": 7}


def record(kind: Kind, body: dict[str, Any], *chunks: dict[str, Any]) -> Record:
    made = Record(check_generation(kind, body))
    feed(made, first_leg(made.generation), *chunks)
    return made


def feed(made: Record, leg: Leg, *chunks: dict[str, Any]) -> list[Any]:
    """What the client gets for `chunks`."""
    return [shape(leg, chunk, read(leg, chunk, made), made) for chunk in chunks]


def text(piece: str, ids: list[int] | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": piece, "finish_reason": None} | more
    return {"id": "a", "created": 1, "model": "m", "choices": [choice | ({"token_ids": ids} if ids else {})]}


def delta(piece: str | None = None, ids: list[int] | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": piece} | more, "finish_reason": None}
    return {"id": "a", "created": 1, "model": "m", "choices": [choice | ({"token_ids": ids} if ids else {})]}


def test_while_nothing_was_sent_the_request_is_sent_again() -> None:
    """A role is no content: the other node starts from the beginning."""
    made = record("chat", CHAT, delta("", role="assistant") | {"prompt_token_ids": [1, 2]})
    leg = next_leg(made)
    assert (leg.body, leg.resumed) == (CHAT, False)
    assert feed(made, leg, delta("", role="assistant"), delta("x", [3]) | {"id": "b"}) == [None, delta("x")]


def test_with_token_ids_a_chat_goes_on_as_a_completion() -> None:
    """The prompt is what the first node read and wrote; what shaped the chat's prompt is left out."""
    body = CHAT | {"temperature": 0.3, "seed": 5, "stop": ["x"], "tools": [], "max_completion_tokens": 8}
    first = delta("", role="assistant") | {"prompt_token_ids": [1, 2]}
    leg = next_leg(record("chat", body, first, delta("a", [3]), delta("b", [4, 5])))
    assert (leg.kind, leg.target, leg.exact) == ("completions", "/v1/completions", True)
    assert leg.body == {
        "model": "m",
        "stream": True,
        "temperature": 0.3,
        "seed": 5,
        "stop": ["x"],
        "prompt": [1, 2, 3, 4, 5],
        "max_tokens": 5,
    }


def test_tokens_whose_text_was_held_back_are_made_again() -> None:
    """Ids that came without text were not read by the client, so the next node starts before them."""
    made = record(
        "completions", COMPLETION, text("a", [3], prompt_token_ids=[1]), text("", [4]), text("", [5])
    )
    leg = next_leg(made)
    assert (leg.body["prompt"], leg.body["max_tokens"]) == ([1, 3], 9)
    made = record(
        "completions", COMPLETION, text("a", [3], prompt_token_ids=[1]), text("", [4]), text("é", [5])
    )
    assert next_leg(made).body["prompt"] == [1, 3, 4, 5]


def test_without_token_ids_the_text_goes_on() -> None:
    """Each chunk is taken for one token, and a chat ends in the answer so far."""
    leg = next_leg(record("completions", COMPLETION, text("a"), text("b")))
    assert (leg.body["prompt"], leg.body["max_tokens"], leg.exact) == ("helloab", 8, False)
    leg = next_leg(record("chat", CHAT, delta("a"), delta("b")))
    assert leg.body["messages"] == [*CHAT["messages"], {"role": "assistant", "content": "ab"}]  # type: ignore[misc]
    assert leg.body["continue_final_message"] is True
    assert leg.body["add_generation_prompt"] is False


def test_an_answer_that_was_begun_by_the_client_is_extended() -> None:
    """A chat that itself continues its last message goes on in that message."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "well, "}]
    body = CHAT | {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    leg = next_leg(record("chat", body, delta("a")))
    assert leg.body["messages"] == [messages[0], {"role": "assistant", "content": "well, a"}]


def test_after_a_resume_by_text_token_ids_are_exact_again() -> None:
    """The second node's own prompt ids hold the text so far, so a second cut can be exact."""
    made = record("completions", COMPLETION, text("a"), text("b"))
    leg = next_leg(made)
    feed(made, leg, text("c", [9], prompt_token_ids=[5, 6, 7]))
    again = next_leg(made)
    assert (again.exact, again.body["prompt"], again.body["max_tokens"]) == (True, [5, 6, 7, 9], 7)


def test_a_chat_with_tools_goes_on_as_a_chat() -> None:
    """A later tool call is only recognised by the chat route."""
    body = CHAT | {"tools": [{"type": "function"}]}
    leg = next_leg(record("chat", body, delta("a", [3]) | {"prompt_token_ids": [1]}))
    assert (leg.kind, leg.exact) == ("chat", False)


@pytest.mark.parametrize(
    "body",
    [
        CHAT | {"n": 2},
        CHAT | {"logprobs": True},
        CHAT | {"frequency_penalty": 0.1},
        CHAT | {"min_tokens": 5},
        CHAT | {"response_format": {"type": "json_schema"}},
        CHAT | {"guided_json": {}} | {"guided_regex": "x"},
    ],
)
def test_what_cannot_go_on_faithfully_is_refused(body: dict[str, Any]) -> None:
    """State that only the lost node had is never guessed."""
    with pytest.raises(ResumeUnsupported):
        next_leg(record("chat", body, delta("a", [3]) | {"prompt_token_ids": [1]}))


def test_a_prompt_that_was_cut_to_size_is_not_cut_again() -> None:
    """The ids of a truncated prompt are what was left of it: the continuation needs every one."""
    body = COMPLETION | {"truncate_prompt_tokens": 2}
    leg = next_leg(record("completions", body, text("a", [3], prompt_token_ids=[1, 2])))
    assert leg.body["prompt"] == [1, 2, 3]
    assert "truncate_prompt_tokens" not in leg.body


def test_the_prompt_s_ids_reach_the_client_when_the_first_text_is_held_back() -> None:
    """They come but once; the id of half a character comes with the other half."""
    made = Record(check_generation("completions", COMPLETION | {"return_token_ids": True}))
    halves = text("", [3], prompt_token_ids=[1, 2]), text("é", [4])
    choices = [chunk["choices"][0] for chunk in feed(made, first_leg(made.generation), *halves)]
    assert choices[0]["prompt_token_ids"] == [1, 2]
    assert [choice["token_ids"] for choice in choices] == [[], [3, 4]]


@pytest.mark.parametrize(
    "more",
    [
        {"echo": True},
        {"best_of": 3},
        {"suffix": "x"},
        {"prompt": ["a", "b"]},
        {"logprobs": 0},
        {"logprobs": 1},
    ],
)
def test_completions_that_cannot_go_on_are_refused(more: dict[str, Any]) -> None:
    """Nor is an echo, a best of several, a suffix, a batch or logprobs, of which 0 is a number too."""
    with pytest.raises(ResumeUnsupported):
        next_leg(record("completions", COMPLETION | more, text("a", [3], prompt_token_ids=[1])))


@pytest.mark.parametrize("more", [{"tool_calls": [{"index": 0}]}, {"reasoning_content": "hm"}])
def test_half_of_something_structured_is_refused(more: dict[str, Any]) -> None:
    """Half a tool call, or reasoning, cannot be continued as text."""
    with pytest.raises(ResumeUnsupported, match=next(iter(more))):
        next_leg(record("chat", CHAT, delta(None, **more)))


def test_a_token_prompt_without_token_ids_cannot_go_on() -> None:
    """Ids and text cannot be joined without the tokenizer."""
    with pytest.raises(ResumeUnsupported):
        next_leg(record("completions", COMPLETION | {"prompt": [1, 2]}, text("a")))


def test_a_continuation_looks_like_the_stream_that_was_begun() -> None:
    """Same id, model and shape; one finish reason; usage over both nodes."""
    body = CHAT | {"stream_options": {"include_usage": True}}
    made = record("chat", body, delta("", role="assistant") | {"prompt_token_ids": [1, 2]}, delta("a", [3]))
    leg = next_leg(made)
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    last = text("c", [5], finish_reason="stop") | {"id": "other", "model": "x"}
    got = feed(made, leg, text("b", [4]), last, {"id": "other", "choices": [], "usage": usage})
    assert [chunk["id"] for chunk in got] == ["a", "a", "a"]
    assert [chunk["object"] for chunk in got] == ["chat.completion.chunk"] * 3
    assert [chunk["choices"][0]["delta"] for chunk in got[:2]] == [{"content": "b"}, {"content": "c"}]
    assert got[1]["choices"][0]["finish_reason"] == "stop"
    assert got[2]["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert made.complete


def test_a_stream_cut_after_its_last_token_is_closed_without_a_node() -> None:
    """All that was asked for was sent: the finish reason and the usage are known."""
    body = COMPLETION | {"max_tokens": 2, "stream_options": {"include_usage": True}}
    made = record("completions", body, text("a", [3], prompt_token_ids=[1]))
    assert not finished_by_length(made)
    feed(made, first_leg(made.generation), text("b", [4]))
    assert finished_by_length(made)
    finish, usage = closing_chunks(made)
    assert finish["choices"][0] | {"text": ""} == finish["choices"][0]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_a_finished_stream_needs_nothing_more() -> None:
    """Nothing is added to a stream that has said all."""
    made = record("completions", COMPLETION, text("a", [3], prompt_token_ids=[1], finish_reason="stop"))
    assert made.complete
    assert closing_chunks(made) == []


ENGINES = {kind: adapter.capabilities for kind, adapter in ADAPTERS.items()}


def test_ids_that_are_ahead_of_their_text_are_taken_back() -> None:
    """vLLM keeps text back under stop, not its ids: the next engine makes those tokens again."""
    body = COMPLETION | {"stop": "xyz"}
    ahead = [text("", [3], prompt_token_ids=[1]), text("", [4]), text("a", [5]), text("b", [6])]
    made = record("completions", body, *ahead, text("c", [7]), text("d", [8]))
    leg = next_leg(made, None, ENGINES["vllm"])
    assert (leg.body["prompt"], leg.body["max_tokens"], leg.exact) == ([1, 3, 4, 5, 6], 6, True)


def test_a_token_that_was_sent_in_part_is_continued_by_text() -> None:
    """No token ends where the text does, so the ids are of no use."""
    body = COMPLETION | {"stop": "xyz"}
    made = record("completions", body, text("a", [3], prompt_token_ids=[1]))
    leg = next_leg(made, None, ENGINES["vllm"])
    assert (leg.body["prompt"], leg.body["max_tokens"], leg.exact) == ("helloa", 10, False)


def test_the_last_of_the_text_is_not_taken_for_sent() -> None:
    """All tokens were made and their text is still held back: the stream is not over."""
    made = record(
        "completions",
        COMPLETION | {"stop": "xyz", "max_tokens": 2},
        text("a", [3], prompt_token_ids=[1]),
        text("bc", [4]),
    )
    made.settle(ENGINES["vllm"])
    assert not finished_by_length(made)
    assert next_leg(made, None, ENGINES["vllm"]).body["max_tokens"] == 1


def test_ids_that_the_client_has_are_not_taken_back() -> None:
    """A client that was sent ids ahead of their text cannot be given them twice."""
    body = COMPLETION | {"stop": "xyz", "return_token_ids": True}
    made = record("completions", body, text("a", [3], prompt_token_ids=[1]), text("b", [4]))
    with pytest.raises(ResumeUnsupported):
        next_leg(made, None, ENGINES["vllm"])


@pytest.mark.parametrize(
    ("engine", "same"),
    [("vllm", False), ("tgi", False), ("llama-server", False), ("sglang", True), ("embedded", True)],
)
def test_a_seed_draws_anew_for_what_comes(engine: str, same: bool) -> None:
    """Where an engine would draw the first tokens' chances again, the continuation has a seed of its own."""
    seeds = set()
    for tokens in (1, 2):
        chunks = [text("a", [3 + at], prompt_token_ids=[1]) for at in range(tokens)]
        leg = next_leg(record("completions", COMPLETION, *chunks), None, ENGINES[engine])
        assert 0 <= leg.body["seed"] < 2**31
        seeds.add(leg.body["seed"])
    assert seeds == {7} if same else len(seeds | {7}) == 3


def test_an_engine_without_ids_says_how_many_tokens_it_made() -> None:
    """llama-server's chunk may hold several tokens of one character."""
    made = record("chat", CHAT, delta("a") | {"timings": {"predicted_n": 3}}, delta("b") | {"timings": {}})
    assert next_leg(made, None, ENGINES["llama-server"]).body["max_tokens"] == 6


def test_what_may_be_held_back_by_an_unknown_engine_is_not_guessed() -> None:
    """All tokens came, under a stop string, from an engine that nobody named: the stream ends in an error."""
    body = COMPLETION | {"stop": "xyz", "max_tokens": 1}
    made = record("completions", body, text("a", [3], prompt_token_ids=[1]))
    made.settle(UNKNOWN)
    assert not finished_by_length(made)
    with pytest.raises(ResumeUnsupported, match="held back"):
        next_leg(made)
