"""An engine whose streams give one token and wait until they are let go: drains are then no race."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any

from aiohttp import web

MODEL = "held"
WORDS = ("A", " notice", " is", " word", ".")


class HeldEngine:
    """OpenAI's API for all nodes, on a thread of its own. A continuation says what is left."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._waiting: list[asyncio.Event] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        self._runner, self.url = self._call(self._start())

    def let_go(self, count: int | None = None) -> None:
        """So many of the streams that wait now, the oldest first, or all and whatever comes."""
        self._loop.call_soon_threadsafe(self._let_go, count)

    def hold(self) -> None:
        """What comes waits again."""
        self._loop.call_soon_threadsafe(setattr, self, "_open", False)

    def close(self) -> None:
        self.let_go()
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    _open = False

    def _let_go(self, count: int | None) -> None:
        self._open = count is None
        for event in self._waiting[:count]:
            event.set()
        del self._waiting[:count]

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/{kind:.*}", self._generate)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL, "max_model_len": 4096}]})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            return web.json_response({"choices": [{"index": 0, "text": "A", "finish_reason": "length"}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        with suppress(ConnectionError):  # a node that drains leaves
            await response.prepare(request)
            await self._stream(response, body)
        return response

    async def _stream(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        chat, prompt = "messages" in body, body.get("prompt")
        said = len(prompt) - 1 if isinstance(prompt, list) else 0
        for at in range(said, len(WORDS)):
            if at == said + 1:
                await self._held()
            await _send(response, chat, {"token_ids": [at]}, WORDS[at], first=at == 0)
        await _send(response, chat, {"finish_reason": "stop"}, "")
        await response.write(b"data: [DONE]\n\n")

    async def _held(self) -> None:
        if not self._open:
            event = asyncio.Event()
            self._waiting.append(event)
            await event.wait()


async def _send(
    response: web.StreamResponse, chat: bool, more: dict[str, Any], text: str, *, first: bool = False
) -> None:
    content = {"delta": {"content": text}} if chat else {"text": text}
    choice = {"index": 0, "finish_reason": None, **content, **more}
    shape = "chat.completion.chunk" if chat else "text_completion"
    chunk: dict[str, Any] = {"id": "x", "object": shape, "created": 1, "model": MODEL, "choices": [choice]}
    if first:
        (chunk if chat else choice)["prompt_token_ids"] = [7]
    await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
