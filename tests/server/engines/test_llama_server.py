"""The real llama-server behind a node and a gateway, where it is installed.

It comes with `pip install xllamacpp gguf`, into any environment: name its Python in LLAMA_SERVER_PYTHON.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.engine_watch import EngineProbe
from server.engines import ADAPTERS
from server.http.client import UpstreamPool
from server.readiness import Readiness

PYTHON = os.environ.get("LLAMA_SERVER_PYTHON")
PROGRAM = Path(__file__).parent / "tiny_llama_server.py"
PATIENCE_S = 60.0
TOKENS = 10
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="LLAMA_SERVER_PYTHON names no Python with xllamacpp and gguf"
)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(str(PYTHON), str(PROGRAM), str(tmp_path / "tiny.gguf"), str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while not (line := await process.stdout.readline()).startswith(b"listening"):
                assert line, "the server ended"
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        await process.communicate()


def asked(route: str, **more: Any) -> dict[str, Any]:
    prompt = {"messages": [{"role": "user", "content": "hi"}]} if route == "chat" else {"prompt": "hello"}
    options = {"max_tokens": TOKENS, "temperature": 0, "stream": True, "cache_prompt": False}
    return prompt | options | more


@pytest.mark.parametrize(("route", "path"), [("chat", "/v1/chat/completions"), ("text", "/v1/completions")])
async def test_a_cut_at_any_event_is_not_seen(stage: Any, engine: str, route: str, path: str) -> None:
    """Greedy decoding goes on where it was cut, by text, to the same end, stop strings held back and all."""
    cutter = await stage.cutter(engine, -1)
    serving = await stage.node(cutter.address, engine="llama-server")
    plain = await (await stage.gateway(serving.address)).post(path, asked(route))
    assert len(plain.text) == TOKENS
    for stop in (None, plain.text[4:7]):
        body = asked(route) if stop is None else asked(route, stop=stop)
        wanted = plain.text if stop is None else plain.text[: plain.text.index(stop)]
        for events in range(TOKENS + 1):
            cutter.events = events
            got = await (await stage.gateway(serving.address)).post(path, body)
            assert (got.text, got.data[-1]) == (wanted, "[DONE]"), (stop, events)


async def test_it_is_probed_and_its_load_is_read(stage: Any, engine: str) -> None:
    """A token makes it ready, its gauges have the names that we look for, its context length is told."""

    async def stop(_: float) -> None:
        raise asyncio.CancelledError

    class Log:
        def info(self, event: str, **fields: object) -> None:
            pass

    pool, readiness = UpstreamPool(), Readiness(["engine"], bool)
    stage.stack.push_async_callback(pool.aclose)
    probe = EngineProbe(
        f"http://{engine}",
        ADAPTERS["llama-server"],
        pool,
        readiness,
        log=Log(),
        interval_s=1,
        timeout_s=PATIENCE_S,
        start_s=PATIENCE_S,
        clock=lambda: 0.0,
        sleep=stop,
    )
    with pytest.raises(asyncio.CancelledError):
        await probe.run()
    assert readiness.ready
    assert (probe.load.queued, probe.load.running) == (0.0, 0.0)
    serving = await stage.node(engine, engine="llama-server")
    assert (await serving.ask("GET", "/v1/models")).json["data"][0]["max_model_len"] == 512


async def test_a_prompt_too_long_is_openai_s_error(stage: Any, engine: str) -> None:
    """The engine's own refusal, in OpenAI's words."""
    serving = await stage.node(engine, engine="llama-server")
    got = await serving.post("/v1/completions", {"prompt": "x" * 2000})
    assert (got.status, got.error["code"]) == (400, "context_length_exceeded")
