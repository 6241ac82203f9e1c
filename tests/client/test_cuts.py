"""Streams that are cut, at every stage and in every way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from goldenfleet_client import InvalidRequest, Resumed, RetryPolicy, StreamTruncated, Timeouts

DRAINING = (
    b'data: {"error":{"message":"going","type":"server_error","param":null,"code":"node_draining"}}\n\n'
)

CUTS: dict[str, dict[str, Any]] = {
    "reset": {"how": "reset"},
    "closed inside the chunked body": {"how": "close"},
    "clean end without a terminal event": {"tail": False},
    "[DONE] without a finish reason": {"tail": False, "raw": b"data: [DONE]\n\n"},
    "node_draining event": {"raw": DRAINING, "how": "close"},
    "node_draining event, then [DONE]": {"raw": DRAINING + b"data: [DONE]\n\n", "tail": False},
    "a generation that its engine gave up": {
        "raw": b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\ndata: [DONE]\n\n',
        "tail": False,
    },
    "event named error": {"raw": b"event: error\n" + DRAINING, "tail": False},
    "numeric 5xx code": {"raw": b'data: {"error":{"message":"x","code":503}}\n\n', "tail": False},
    "junk instead of JSON": {"raw": b'data: {"choi\n\n', "tail": False},
    "junk instead of SSE": {"raw": b"<html>502</html>\n\n", "tail": False},
    "no UTF-8": {"raw": b"data: \xff\xfe\n\n", "tail": False},
    "half an event": {"raw": b'data: {"choices":[{"te', "how": "reset"},
    "half a character": {"raw": 'data: {"choices":[{"text":"ä'.encode()[:-1], "how": "reset"},
}


def cut(acts: Any, name: str, events: int, **more: Any) -> Any:
    how = dict(CUTS[name])
    ending = how.pop("how", None)
    return acts.speak(events=events, cut=getattr(acts, ending) if ending else None, **how, **more)


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
@pytest.mark.parametrize("events", [0, 1, 5, 12])
@pytest.mark.parametrize("name", CUTS)
def test_a_cut_anywhere_is_not_noticed(
    caller: Any, service: Any, acts: Any, name: str, events: int, chat: bool
) -> None:
    """Whatever the cut and wherever it falls, the joined text is the undisturbed text."""
    service.then(cut(acts, name, events), acts.speak())
    outcome = caller.read(chat)
    assert outcome.error is None
    assert outcome.text == outcome.result.text == acts.text
    assert outcome.result.finish_reason == "stop"
    assert outcome.result.exact
    assert outcome.result.attempts == 2
    assert outcome.result.resumes == (1 if events else 0)
    assert (outcome.result.usage.prompt_tokens, outcome.result.usage.completion_tokens) == (3, 12)


@pytest.mark.parametrize("name", CUTS)
def test_several_cuts_in_a_row(caller: Any, service: Any, acts: Any, name: str) -> None:
    """Each continuation may be cut again; the request id stays, the text stays whole."""
    service.then(*[cut(acts, name, 2) for _ in range(5)], acts.speak())
    outcome = caller.read(chat=True, request_id="r1")
    assert outcome.text == acts.text
    assert outcome.result.resumes == 5
    assert {seen.headers["x-request-id"] for seen in service.seen} == {"r1"}
    assert [seen.path for seen in service.seen] == ["/v1/chat/completions"] + ["/v1/completions"] * 5
    assert [seen.body["max_tokens"] for seen in service.seen] == [256, 254, 252, 250, 248, 246]


def test_a_continuation_repeats_the_sampling(caller: Any, service: Any, acts: Any) -> None:
    """A continuation asks for the rest under the same sampling and nothing else of the chat request."""
    service.then(acts.speak(events=3, cut=acts.reset), acts.speak())
    caller.read(chat=True, max_tokens=20, temperature=0.5, seed=3, stop=["#"], extra={"top_k": 4})
    assert service.seen[1].body == {
        "model": "m",
        "prompt": [7, 8, 9, 100, 101, 102],
        "max_tokens": 17,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["#"],
        "top_k": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
def test_without_token_ids_text_continues(caller: Any, service: Any, acts: Any, chat: bool) -> None:
    """A service that gives no ids is continued from the text, and the result says that it is not exact."""
    service.then(acts.speak(events=4, cut=acts.reset, ids=False), acts.speak(ids=False))
    outcome = caller.read(chat)
    assert outcome.text == acts.text
    assert outcome.result.exact is False
    assert (outcome.result.usage.prompt_tokens, outcome.result.usage.completion_tokens) == (3, 12)
    if chat:
        assert service.seen[1].body["messages"][-1] == {"role": "assistant", "content": "Der Mond ist auf"}
        assert service.seen[1].body["add_generation_prompt"] is False


def test_tokens_whose_text_was_held_back_are_made_again(caller: Any, service: Any, acts: Any) -> None:
    """An engine's ids of half a character were not read as text: the continuation starts before them."""
    half = b'data: {"choices":[{"index":0,"text":"","token_ids":[103],"finish_reason":null}]}\n\n'
    service.then(
        acts.speak(events=3, raw=half, cut=acts.reset), acts.speak(events=2, cut=acts.reset), acts.speak()
    )
    outcome = caller.read()
    assert outcome.text == acts.text
    assert outcome.result.exact
    assert service.seen[1].body["prompt"] == [7, 8, 9, 100, 101, 102]
    assert service.seen[2].body["prompt"] == [7, 8, 9, 100, 101, 102, 103, 104]


def test_a_service_without_ids_in_prompts(caller: Any, service: Any, acts: Any) -> None:
    """Where token ids are refused as a prompt, the stream goes on from its text."""
    service.then(acts.speak(events=4, cut=acts.reset), acts.refuse(400, code="bad"), acts.speak())
    outcome = caller.read(chat=True)
    assert outcome.text == acts.text
    assert outcome.result.exact is False


def test_a_service_that_is_full_is_no_reason_to_give_ids_up(caller: Any, service: Any, acts: Any) -> None:
    """It is asked again for the same: only what it says of the request itself is about the ids."""
    service.then(acts.speak(events=4, cut=acts.reset), acts.refuse(503), acts.speak())
    outcome = caller.read(chat=True)
    assert outcome.text == acts.text
    assert outcome.result.exact
    assert service.seen[1].body == service.seen[2].body


def test_a_cut_after_the_last_allowed_token(caller: Any, service: Any, acts: Any) -> None:
    """With max_tokens reached there is nothing to continue: the stream is finished by length."""
    service.then(acts.speak(events=4, cut=acts.reset))
    outcome = caller.read(max_tokens=4)
    assert outcome.result.finish_reason == "length"
    assert outcome.result.attempts == 1
    assert outcome.result.usage.completion_tokens == 4


def test_a_cut_after_the_finish_reason(caller: Any, service: Any, acts: Any) -> None:
    """Once a finish reason was read the text is whole, also without [DONE]."""
    last = b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
    service.then(acts.speak(events=12, cut=acts.reset, raw=last))
    outcome = caller.read()
    assert outcome.text == acts.text
    assert outcome.result.attempts == 1
    assert outcome.result.usage.total_tokens == 15


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_bytes_split_anywhere(caller: Any, service: Any, acts: Any, size: int) -> None:
    """Events, line ends and characters may be split over pieces."""
    service.then(acts.speak(split=size))
    assert caller.read().text == acts.text


def test_silence_before_the_first_token_is_a_cut(callers: Any, service: Any, acts: Any) -> None:
    """A stream that began and says nothing is given `first_token` for it, however long `read` is."""
    service.then(acts.speak(events=0, cut=acts.silence), acts.speak())
    outcome = callers(service.url, timeouts=Timeouts(first_token=0.2, read=60.0, total=10.0)).read()
    assert outcome.text == acts.text
    assert (outcome.result.attempts, outcome.result.resumes) == (2, 0)


def test_silence_inside_a_stream_is_a_cut(callers: Any, service: Any, acts: Any) -> None:
    """A stream that falls silent for longer than `read` is continued elsewhere."""
    service.then(acts.speak(events=3, cut=acts.silence), acts.speak())
    outcome = callers(service.url, timeouts=Timeouts(read=0.2)).read()
    assert outcome.text == acts.text
    assert service.connections[0].left.wait(5)


def test_a_trickle_is_no_event(callers: Any, service: Any, acts: Any) -> None:
    """Nor is silence broken by bytes that never make one piece: the limit of `read` holds for the piece."""

    def trickle(connection: Any, _seen: Any) -> bool:
        while not connection.left.wait(0.05):
            connection.sock.sendall(b"0")  # of a chunk's length
        return False

    service.then(acts.speak(events=3, cut=trickle), acts.speak())
    outcome = callers(service.url, timeouts=Timeouts(read=0.2)).read()
    assert outcome.text == acts.text
    assert outcome.result.attempts == 2


def test_a_stream_that_never_begins(callers: Any, service: Any, acts: Any) -> None:
    """A stream without a first event within `first_token` is tried again."""
    service.then(acts.speak(events=0, cut=acts.silence), acts.silence, acts.speak())
    outcome = callers(service.url, timeouts=Timeouts(first_token=0.2)).read()
    assert outcome.text == acts.text
    assert outcome.result.attempts == 3


@pytest.mark.parametrize(
    ("kind", "code"),
    [("server_error", "resume_unsupported"), ("invalid_request_error", "context_length_exceeded")],
)
def test_a_final_error_event_truncates(caller: Any, service: Any, acts: Any, kind: str, code: str) -> None:
    """An error that another node would give again ends the stream, with what was received."""
    error = json.dumps(acts.error("no", code, kind)).encode()
    service.then(acts.speak(events=3, raw=b"data: " + error + b"\n\n", tail=False))
    outcome = caller.read()
    assert isinstance(outcome.error, StreamTruncated)
    assert code in str(outcome.error)
    assert outcome.error.text == outcome.text == "Der Mond ist "
    assert len(service.seen) == 1


def test_what_cannot_be_continued_faithfully_is_not(caller: Any, service: Any, acts: Any) -> None:
    """A field whose effect on a continuation is unknown makes a cut final; never a guess."""
    service.then(acts.speak(events=3, cut=acts.reset))
    outcome = caller.read(extra={"frequency_penalty": 0.5})
    assert isinstance(outcome.error, StreamTruncated)
    assert "frequency_penalty" in str(outcome.error)
    assert outcome.error.text == "Der Mond ist "


def test_a_stream_is_not_resumed_for_ever(callers: Any, service: Any, acts: Any) -> None:
    """One token per attempt is progress, but the number of resumes is bounded."""
    service.then(acts.speak(events=1, cut=acts.reset))
    outcome = callers(service.url, retry=RetryPolicy(resumes=4)).read()
    assert isinstance(outcome.error, StreamTruncated)
    assert outcome.error.text == "Der Mond ist aufgegan"
    assert len(service.seen) == 5


def test_no_progress_is_not_retried_for_ever(callers: Any, service: Any, acts: Any) -> None:
    """Cuts without a new token count as failures in a row."""
    service.then(acts.speak(events=2, cut=acts.reset), acts.speak(events=0, cut=acts.reset))
    outcome = callers(service.url, retry=RetryPolicy(losses=4)).read()
    assert isinstance(outcome.error, StreamTruncated)
    assert outcome.error.attempts == len(service.seen) == 6
    assert outcome.error.__cause__ is not None


def test_a_hook_that_fails_costs_nothing(
    callers: Any, service: Any, acts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What on_event raises is logged: neither a resume nor the error that a call ends in is lost to it."""

    def hook(_event: object) -> None:
        raise KeyError("metrics")

    service.then(acts.speak(events=3, cut=acts.reset), acts.speak(), acts.refuse(400))
    caller = callers(service.url, on_event=hook)
    assert caller.read().text == acts.text
    assert isinstance(caller.read().error, InvalidRequest)
    assert [record.name for record in caplog.records] == ["goldenfleet_client"] * 3


def test_a_resume_is_told(caller: Any, service: Any, acts: Any) -> None:
    """The hook hears of each resume, with how much had been said."""
    service.then(acts.speak(events=3, cut=acts.reset), acts.speak())
    caller.read(request_id="r9")
    resumed = [event for event in caller.events if isinstance(event, Resumed)]
    assert [(e.request_id, e.attempt, e.tokens_before, e.exact) for e in resumed] == [("r9", 2, 3, True)]
