"""Bodies that are nearly requests: of every route, and of the admin port."""

import asyncio
import io
import json
import time
from random import Random
from typing import Any

import aiohttp
import pytest

from server.admin import Admin, bound, serve_admin
from server.drain import Drain
from server.readiness import Readiness
from server.telemetry import Telemetry, open_log
from tests.server.fuzz.cases import each, odd_json
from tests.server.fuzz.conftest import Troubles, check_refusal
from tests.server.fuzz.engines import AnyEngine

CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
    ],
    "max_tokens": 5,
    "stop": ["z"],
    "stream_options": {"include_usage": True},
}
COMPLETION = {"model": "m", "prompt": "x", "max_tokens": 5, "stop": "z", "seed": 1, "temperature": 0.5}
TGI = {
    "inputs": "x",
    "parameters": {"max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["z"], "details": True},
}
OPENAI_NAMES = [
    "model",
    "messages",
    "prompt",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "stream",
    "stream_options",
    "seed",
    "temperature",
    "top_p",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "response_format",
    "echo",
    "suffix",
    "logit_bias",
    "user",
    "return_token_ids",
    "continue_final_message",
    "presence_penalty",
    "min_tokens",
    "kv_transfer_params",
    "prompt_embeds",
    "x",
]
TGI_NAMES = [
    "inputs",
    "parameters",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "typical_p",
    "seed",
    "max_new_tokens",
    "stop",
    "stop_sequences",
    "details",
    "return_full_text",
    "do_sample",
    "watermark",
    "truncate",
    "grammar",
    "best_of",
    "repetition_penalty",
    "x",
]
ROUTES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "/v1/chat/completions": (CHAT, OPENAI_NAMES),
    "/v1/completions": (COMPLETION, OPENAI_NAMES),
    "/": (TGI, TGI_NAMES),
    "/generate": (TGI, TGI_NAMES),
    "/generate_stream": (TGI, TGI_NAMES),
}


async def checked(serving: Any, path: str, raw: bytes) -> None:
    got = await serving.post(path, raw)
    tgi = ROUTES[path][0] is TGI
    assert got.status in (200, 400, 404, 422), (raw, got.body)
    check_refusal(got.status, got.headers, got.body, tgi=tgi)
    assert got.clean, raw
    if got.status == 200 and got.headers["content-type"].startswith("text/event-stream"):
        last = got.data[-1]
        assert last == "[DONE]" or "error" in last or last.get("generated_text") is not None, (raw, got.body)


@pytest.mark.parametrize("role", ["gateway", "node"])
async def test_odd_bodies_are_answered_or_refused(stage: Any, troubles: Troubles, role: str) -> None:
    """Odd types, depths, numbers and bytes: never 5xx, no bug, and engines get JSON only."""
    engine = AnyEngine()
    serving = await getattr(stage, role)(await engine.open(stage.stack))

    async def check(rng: Random) -> None:
        path = rng.choice(list(ROUTES))
        body, names = ROUTES[path]
        body = body | ({"stream": True} if rng.random() < 0.3 else {})
        await checked(serving, path, odd_json(rng, body, names))

    await each(f"bodies of a {role}", 1500, check)
    assert serving.events("request.failed") == []
    assert engine.not_json == []


async def test_odd_orders_drain_nothing(troubles: Troubles) -> None:
    """What is posted to the admin port is taken or refused in the envelope, never 5xx."""
    log = open_log(role="model", instance_id="i-1", file=io.StringIO())
    loop = asyncio.get_running_loop()
    drain = Drain(clock=time.time, call_later=loop.call_later, log=log, entered=str)
    admin = Admin("i-1", "model", drain, Readiness([], bool), Telemetry(log), time.time, 12.5)
    with bound("127.0.0.1", 0) as listener:
        async with serve_admin(admin.app(), listener) as port, aiohttp.ClientSession() as session:

            async def check(rng: Random) -> None:
                raw = odd_json(rng, {"reason": "x", "deadline_s": 100.0}, ["reason", "deadline_s", "x"])
                path = rng.choice(
                    ("/drain", "/drain", "/drain", "/undrain", "/metrics", "/state", "/x?a=%ff")
                )
                async with session.post(f"http://127.0.0.1:{port}{path}", data=raw) as response:
                    said = json.loads(await response.read())
                    assert response.status in (200, 202, 400, 404, 405, 413), (raw, said)
                    assert response.status < 400 or set(said["error"]) >= {"message", "code"}, (raw, said)

            await each("orders", 400, check)
    drain.cancel()
