from random import Random
from typing import Any

import pytest

from server.errors import BadRequest
from server.wire.jsonbody import dump
from server.wire.openai import Delta
from server.wire.tgi import TgiAnswer, TgiRequest, info, read_request


def request(parameters: dict[str, Any] | None = None, **more: Any) -> TgiRequest:
    return read_request(dump({"inputs": "in", "parameters": parameters} | more), Random(1))


@pytest.mark.parametrize(
    ("parameters", "body"),
    [
        (None, {"max_tokens": 100, "temperature": 0.0}),
        ({"max_new_tokens": 7}, {"max_tokens": 7, "temperature": 0.0}),
        ({"temperature": 1.0}, {"max_tokens": 100, "temperature": 0.0}),
        ({"seed": 5}, {"max_tokens": 100, "temperature": 0.0}),
        ({"do_sample": True, "seed": 5}, {"max_tokens": 100, "temperature": 1.0, "seed": 5}),
        ({"temperature": 0.5, "seed": 5}, {"max_tokens": 100, "temperature": 0.5, "seed": 5}),
        ({"top_p": 0.9, "seed": 5}, {"max_tokens": 100, "temperature": 1.0, "seed": 5, "top_p": 0.9}),
        ({"top_k": 4, "seed": 5}, {"max_tokens": 100, "temperature": 1.0, "seed": 5, "top_k": 4}),
        ({"stop": ["a"]}, {"max_tokens": 100, "temperature": 0.0, "stop": ["a"]}),
        ({"stop_sequences": ["a"]}, {"max_tokens": 100, "temperature": 0.0, "stop": ["a"]}),
        ({"repetition_penalty": 1.2}, {"max_tokens": 100, "temperature": 0.0, "repetition_penalty": 1.2}),
        ({"watermark": False, "best_of": 1, "typical_p": 1.0}, {"max_tokens": 100, "temperature": 0.0}),
    ],
)
def test_parameters_become_a_completion(parameters: dict[str, Any] | None, body: dict[str, Any]) -> None:
    """Decoding is greedy unless TGI itself would sample."""
    assert request(parameters).generation.body == {"prompt": "in"} | body


def test_sampling_without_a_seed_draws_one_and_reports_it() -> None:
    """So that what is resumed elsewhere samples the same, and can be asked for again."""
    asked = request({"do_sample": True})
    assert asked.seed is not None
    assert asked.generation.body["seed"] == asked.seed
    assert TgiAnswer(asked).last_event()["details"]["seed"] == asked.seed
    assert request({"temperature": 1.0}).seed is None


@pytest.mark.parametrize(
    "parameters",
    [
        {"decoder_input_details": True},
        {"best_of": 2},
        {"watermark": True},
        {"grammar": {"type": "regex", "value": "a"}},
        {"top_n_tokens": 3},
        {"truncate": 5},
        {"typical_p": 0.5},
        {"adapter_id": "x"},
        {"temperature": 0},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"stop": ["a"] * 5},
        {"do_sample": "yes"},
    ],
)
def test_what_cannot_be_honoured_is_refused(parameters: dict[str, Any]) -> None:
    """A parameter that would change the answer is never dropped."""
    with pytest.raises(BadRequest) as refused:
        request(parameters)
    assert refused.value.param in parameters


def play(parameters: dict[str, Any], *deltas: Delta) -> tuple[TgiAnswer, list[dict[str, Any]]]:
    answer = TgiAnswer(request(parameters))
    events = [event for delta in deltas for event in answer.events(delta)]
    return answer, [*events, answer.last_event()]


A, B = Delta(text="a", token_ids=[1]), Delta(text="b", token_ids=[2])


@pytest.mark.parametrize(
    ("parameters", "deltas", "reason", "texts"),
    [
        ({"max_new_tokens": 2}, [A, B, Delta(finish_reason="length", finished=1)], "length", ["a", "b"]),
        (
            {"max_new_tokens": 2},
            [A, Delta("b", [2], finish_reason="length", finished=1)],
            "length",
            ["a", "b"],
        ),
        ({}, [A, B, Delta(finish_reason="stop", finished=1)], "eos_token", ["a", "b", ""]),
        ({}, [A, Delta("b", [2], finish_reason="stop", finished=1)], "eos_token", ["a", "b"]),
        ({"stop": ["x"]}, [A, Delta(finish_reason="stop", finished=1)], "stop_sequence", ["a", ""]),
        (
            {"stop": ["x"]},
            [A, Delta(finish_reason="stop", finished=1, stop_reason=7)],
            "eos_token",
            ["a", ""],
        ),
        ({}, [Delta("ab", [1, 2]), Delta(finish_reason="stop", finished=1)], "eos_token", ["", "ab", ""]),
    ],
)
def test_the_last_event_carries_the_text_and_its_details(
    parameters: dict[str, Any], deltas: list[Delta], reason: str, texts: list[str]
) -> None:
    """Tokens stream as they come, and exactly one event, the last, says how it ended."""
    answer, events = play(parameters, *deltas)
    assert [event["token"]["text"] for event in events] == texts
    assert [event["generated_text"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["generated_text"] == "".join(texts)
    assert events[-1]["details"]["finish_reason"] == reason
    assert events[-1]["details"]["generated_tokens"] == len(answer.tokens)
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))


def test_half_a_character_is_told_once() -> None:
    """Ids whose text an engine holds back come again with it, and only then are they events."""
    answer, events = play(
        {}, A, Delta(token_ids=[7]), Delta("ü", [7, 8]), Delta(finish_reason="stop", finished=1)
    )
    assert [event["token"]["id"] for event in events[:-1]] == [1, 7, 8]
    assert events[-1]["details"]["generated_tokens"] == len(answer.tokens) == 3


def test_ids_of_the_prompt_are_told_once_to_who_asks() -> None:
    """The first event has them, so that a client can continue the stream; nobody else sees them."""
    first = Delta("a", [1], prompt_token_ids=[4, 5])
    _, events = play({"return_token_ids": True}, first, B, Delta(finish_reason="stop", finished=1))
    assert [event.get("prompt_token_ids") for event in events] == [[4, 5], None, None]
    _, events = play({}, first, B, Delta(finish_reason="stop", finished=1))
    assert not any("prompt_token_ids" in event for event in events)


def test_a_generation_goes_on_from_token_ids() -> None:
    """They take the place of the text as the prompt."""
    assert request({"prompt_token_ids": [4, 5, 1]}).generation.body["prompt"] == [4, 5, 1]


@pytest.mark.parametrize("ids", [[], "4", [True], [-1], [1.5], {"a": 1}, [[1]]])
def test_no_token_ids(ids: Any) -> None:
    """A list that is none is refused."""
    with pytest.raises(BadRequest) as refused:
        request({"prompt_token_ids": ids})
    assert refused.value.param == "prompt_token_ids"


def test_full_text_holds_the_prompt() -> None:
    """`return_full_text` is TGI's name for the prompt in front."""
    _, events = play({"return_full_text": True}, A, Delta(finish_reason="stop", finished=1))
    assert events[-1]["generated_text"] == "ina"


@pytest.mark.parametrize(
    ("details", "keys"), [(False, {"generated_text"}), (True, {"generated_text", "details"})]
)
def test_details_are_given_to_who_asks(details: bool, keys: set[str]) -> None:
    """A plain answer has the text alone."""
    answer, _ = play({"details": details}, A, Delta(finish_reason="stop", finished=1))
    assert answer.response().keys() == keys


@pytest.mark.parametrize("models", [{}, {"data": []}, {"data": 1}, {"data": ["x"]}])
def test_info_survives_any_model_list(models: dict[str, Any]) -> None:
    """An engine that lists nothing still has an /info."""
    assert info(models, "1")["model_id"] == "unknown"
