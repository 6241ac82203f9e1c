"""Streams of engines that are cut, split, doubled, garbled and lied about, behind a gateway and a node."""

import json
from random import Random
from typing import Any

import pytest

from tests.server.fuzz.cases import each
from tests.server.fuzz.conftest import Troubles, check_refusal
from tests.server.fuzz.engines import RawEngine
from tests.server.fuzz.streams import FULL, PROMPT, Behaviour

CHAT = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 30, "stream": True}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}, "return_token_ids": True}),
    ("/v1/chat/completions", CHAT | {"model": "tgi"}),
    ("/v1/completions", {"prompt": PROMPT, "max_tokens": 30, "stream": True}),
    ("/v1/completions", {"prompt": PROMPT, "max_tokens": 30, "stream": True, "return_token_ids": True}),
    ("/generate_stream", {"inputs": PROMPT, "parameters": {"max_new_tokens": 30}}),
    ("/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 30}}),
]
SETTINGS = {"retry_budget": 1.0, "retry_budget_minimum": 1000}


class Engines:
    """Answer each request as its case, which its id names, behaves."""

    def __init__(self) -> None:
        self.behaviours: dict[bytes, Behaviour] = {}

    def answer(self, head: bytes, body: bytes) -> list[bytes]:
        lines = head.lower().split(b"\r\n")
        if lines[0].startswith(b"get "):
            return [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]
        given = next(line[14:] for line in lines if line.startswith(b"x-request-id: "))
        return self.behaviours[given].answer(head, body)


def check_stream(got: Any, path: str, role: str) -> str:
    """The text of an answer that is what it must be, whatever its engine did."""
    tgi = path.startswith("/generate")
    assert got.clean
    assert role == "node" or b"secret" not in got.body
    if got.status != 200:
        check_refusal(got.status, got.headers, got.body, tgi=tgi)
        return ""
    if path == "/generate":
        return str(got.json["generated_text"])
    assert got.headers["content-type"].startswith("text/event-stream")
    if role == "node" and not tgi:
        # As the engine said it: its gateway reads it.
        assert b"[DONE]" in got.body or b'{"error"' in got.body
        return ""
    last = got.data[-1]
    assert all(item != "[DONE]" for item in got.data[:-1])
    if tgi:
        assert "error" in last or last["generated_text"] is not None
    else:
        assert last == "[DONE]" or set(last) == {"error"}
    return str(got.text)


def ended_well(got: Any, path: str) -> bool:
    if got.status != 200:
        return False
    return path == "/generate" or b"[DONE]" in got.body or b'"generated_text":"' in got.body


@pytest.mark.parametrize("destructive", [False, True])
@pytest.mark.parametrize("role", ["gateway", "node"])
async def test_no_stream_of_an_engine_deceives_a_client(
    stage: Any, troubles: Troubles, role: str, destructive: bool
) -> None:
    """A clean end has its terminal event, the text is the answer's beginning or all of it, and never 500."""
    engines = Engines()
    addresses = [await RawEngine(engines.answer).open(stage.stack) for _ in range(4)]
    serving = await (
        stage.gateway(*addresses, **SETTINGS) if role == "gateway" else stage.node(addresses[0], **SETTINGS)
    )
    finished = 0

    async def check(rng: Random) -> None:
        nonlocal finished
        path, body = rng.choice(REQUESTS)
        given = f"case-{len(engines.behaviours)}"
        bad = rng.choice((0, 1, 1, 1, 2, 3, 20))
        behaviour = Behaviour(rng, bad, ids=rng.random() < 0.5, destructive=destructive)
        engines.behaviours[given.encode()] = behaviour
        got = await serving.post(path, body, {"x-request-id": given})
        text = check_stream(got, path, role)
        finished += ended_well(got, path)
        if not destructive and text:
            assert FULL.startswith(text), text
            assert text == FULL or not ended_well(got, path), text

    await each(f"{role} {destructive}", 100, check)
    assert finished
    assert serving.events("request.failed") == []
    assert json.dumps(serving.nodes.snapshot()).count('"in_flight": 0') == len(serving.nodes.nodes)
