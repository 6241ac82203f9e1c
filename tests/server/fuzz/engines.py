"""Engines for fuzzing: one that takes anything, and one whose answers are bytes of the test's choice."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from server.http.exchange import Exchange
from server.http.server import HttpServer

SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@dataclass
class AnyEngine:
    """Answers every request that is JSON with two tokens a choice; keeps what was not."""

    not_json: list[bytes] = field(default_factory=list)
    address: str = ""

    async def open(self, stack: AsyncExitStack) -> str:
        server = HttpServer(self.handle)
        self.address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
        stack.push_async_callback(server.aclose, 0)
        return self.address

    async def handle(self, exchange: Exchange) -> None:
        raw = await exchange.request.body(1 << 25)
        if exchange.request.path == "/v1/models":
            await exchange.respond(200, JSON, b'{"object":"list","data":[{"id":"any"}]}')
            return
        try:
            body = json.loads(raw, parse_constant=_no_constant)
        except ValueError:
            self.not_json.append(raw)
            body = {}
        chat = exchange.request.path == "/v1/chat/completions"
        choices = choices_of(body)
        if body.get("stream"):
            await exchange.start(200, SSE)
            await exchange.write(b"".join(events(chat, choices)))
            await exchange.end()
            return
        content = {"message": {"role": "assistant", "content": "ab"}} if chat else {"text": "ab"}
        found = [{"index": at, "finish_reason": "stop"} | content for at in range(choices)]
        await exchange.respond(200, JSON, json.dumps({"choices": found}).encode())


def choices_of(body: dict[str, Any]) -> int:
    prompt = body.get("prompt")
    batch = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else 1
    return (body.get("n") or 1) * batch


def events(chat: bool, choices: int = 1) -> list[bytes]:
    """Two tokens of each choice, and the stream's end."""

    def event(at: int, content: str, reason: str | None) -> bytes:
        said = {"delta": {"content": content} if content else {}} if chat else {"text": content}
        choice = {"index": at, "finish_reason": reason} | said
        return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"

    tokens = [event(at, letter, None) for letter in "ab" for at in range(choices)]
    return [*tokens, *(event(at, "", "stop") for at in range(choices)), b"data: [DONE]\n\n"]


Answer = Callable[[bytes, bytes], list[bytes]]


@dataclass
class RawEngine:
    """Sends what `answer` gives for a request's head and body, in those pieces, and closes."""

    answer: Answer
    address: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self, stack: AsyncExitStack) -> str:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stack.push_async_callback(self._stop, server)
        return self.address

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        for piece in self.answer(head, await reader.readexactly(length)):
            writer.write(piece)
            await writer.drain()
            # Each piece is a read of its own.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
