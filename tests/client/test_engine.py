"""The client against the embedded engine, its streams cut by a proxy in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.shears import Shears

PROMPTS = ["Über die Drähte", "A notice is"]
MODEL = "goldenfleet-embedded"


@pytest.fixture(scope="module")
def engine() -> Iterator[int]:
    """The port of a running engine."""
    command = [sys.executable, "-m", "server.engine", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ), text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
        process.terminate()
        process.wait(20)


@pytest.fixture
def shears(engine: int, request: pytest.FixtureRequest) -> Iterator[Shears]:
    made = Shears([engine], request.param)
    yield made
    made.close()


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
@pytest.mark.parametrize("shears", [[700, 2300, 1100, 900, 10**9]], indirect=True)
def test_cut_streams_say_what_whole_ones_say(callers: Any, engine: int, shears: Shears, chat: bool) -> None:
    """Through any cuts the joined text of a real engine is its undisturbed text, to the last character."""
    undisturbed = callers(f"http://127.0.0.1:{engine}", model=MODEL)
    cut = callers(shears.url, model=MODEL)
    for prompt in PROMPTS:
        whole = _read(undisturbed, prompt, chat)
        joined = _read(cut, prompt, chat)
        assert joined.error is None
        assert joined.result.text == joined.text == whole.text
        assert joined.result.finish_reason == whole.result.finish_reason
        assert joined.result.usage == whole.result.usage
        assert joined.result.exact
    assert any(event.__class__.__name__ == "Resumed" for event in cut.events)


def _read(caller: Any, prompt: str, chat: bool) -> Any:
    what = [{"role": "user", "content": prompt}] if chat else prompt
    return caller.read_of("chat_stream" if chat else "generate_stream", what, max_tokens=48)
