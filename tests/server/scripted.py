"""Engines that follow a script, and ways to an engine that are cut."""

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from server.http.exchange import Exchange

LETTERS = "abcdefghijklmnopqrstuvwxyzäöü€"


@dataclass(frozen=True)
class Plan:
    """What a scripted engine does with one generation: how many tokens it gives, and how it ends.

    `end`: done | reset | eof | half (an event cut in two) | an error event's code | hang | stall (the whole
    engine stands still, until it is `awake`, and then goes on) | abort (an engine that shuts down).
    A `status` other than 200 is answered instead; `whole` is, where the answer comes in one piece.
    """

    tokens: int | None = None
    end: str = "done"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ids: bool = True
    whole: bytes | None = None
    body: bytes = b'{"error":{"message":"secret of the node","type":"x","param":null,"code":"x"}}'


@dataclass
class ScriptedEngine:
    """One token is one character, and which one depends on its position alone, as greedy decoding would."""

    plans: list[Plan] = field(default_factory=list)
    default: Plan = field(default_factory=Plan)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: ["scripted"])
    running: int = 0
    address: str = ""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.awake.set()

    @property
    def found(self) -> dict[str, tuple[str, int]]:
        """This engine as discovery would find it."""
        host, _, port = self.address.partition(":")
        return {self.address: (host, int(port))}

    async def handle(self, exchange: Exchange) -> None:
        await self.awake.wait()
        if exchange.request.path == "/health":
            await exchange.respond(200, [], b"")
            return
        if exchange.request.path == "/v1/models":
            data = [{"id": model, "object": "model", "max_model_len": 300} for model in self.models]
            await _json(exchange, 200, {"object": "list", "data": data})
            return
        body = json.loads(await exchange.request.body(1 << 20))
        self.asked.append((exchange.request.path, body))
        self.heads.append({name.decode(): value.decode() for name, value in exchange.request.headers})
        plan = self.plans.pop(0) if self.plans else self.default
        self.running += 1
        try:
            await self._generate(exchange, body, plan)
        finally:
            self.running -= 1

    async def _generate(self, exchange: Exchange, body: dict[str, Any], plan: Plan) -> None:
        if plan.end == "reset" and plan.tokens is None:
            exchange.abort()
            return
        if plan.end == "hang" and plan.tokens is None:
            await self.release.wait()
        if plan.end == "stall" and plan.tokens is None:
            await self.stall()
        if plan.status != 200:
            await exchange.respond(
                plan.status, [(b"content-type", b"application/json"), *plan.headers], plan.body
            )
            return
        writer = Writing(exchange, body, plan, self)
        await (writer.stream() if body.get("stream") else writer.whole())

    async def stall(self) -> None:
        self.awake.clear()
        await self.awake.wait()


@dataclass
class Writing:
    """One answer of a scripted engine."""

    exchange: Exchange
    body: dict[str, Any]
    plan: Plan
    engine: ScriptedEngine

    def __post_init__(self) -> None:
        self.chat = "messages" in self.body
        prompt = _rendered(self.body) if self.chat else self.body["prompt"]
        self.prompt_ids = list(map(ord, prompt)) if isinstance(prompt, str) else prompt
        most = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        self.total = most if most is not None else 300 - len(self.prompt_ids)
        self.ids = [ord(LETTERS[(len(self.prompt_ids) + i) % len(LETTERS)]) for i in range(self.total)]
        self.text = "".join(map(chr, self.ids))
        self.reason = "length"
        for stop in self.body.get("stop") or []:
            if stop in self.text:
                self.text = self.text[: self.text.index(stop)]
                self.ids, self.reason = self.ids[: len(self.text)], "stop"

    async def whole(self) -> None:
        choice = {"index": 0, "finish_reason": self.reason}
        choice |= (
            {"message": {"role": "assistant", "content": self.text}} if self.chat else {"text": self.text}
        )
        shape = "chat.completion" if self.chat else "text_completion"
        if self.plan.whole is not None:
            await self.exchange.respond(200, [(b"content-type", b"text/html")], self.plan.whole)
            return
        if self.plan.end == "abort":
            choice["finish_reason"] = "abort"
        elif self.plan.end not in ("done", "stall"):
            await self.exchange.start(200, [(b"content-type", b"application/json")])
            await self.exchange.write(b'{"id":')
            self.exchange.abort()
            return
        await _json(self.exchange, 200, self._head(shape) | {"choices": [choice], "usage": self._usage()})

    async def stream(self) -> None:
        await self.exchange.start(200, [(b"content-type", b"text/event-stream"), *self.plan.headers])
        if self.chat:
            await self._send(self._chunk({"delta": {"role": "assistant", "content": ""}}) | self._prompt())
        given = len(self.ids) if self.plan.tokens is None else min(self.plan.tokens, len(self.ids))
        for at in range(given):
            await self._send(self._token(at))
        if self.plan.end == "stall":
            await self._go_on(given)
        elif self.plan.end == "done" and given == len(self.ids):
            await self._finish()
        else:
            await self._break(given)

    async def _go_on(self, given: int) -> None:
        if given < len(self.ids):
            await self.engine.stall()
        for at in range(given, len(self.ids)):
            await self._send(self._token(at))
        await self._finish()

    async def _finish(self) -> None:
        await self._send(self._chunk({"delta": {}} if self.chat else {"text": ""}, self.reason))
        if (self.body.get("stream_options") or {}).get("include_usage"):
            await self._send(self._head(self._shape()) | {"choices": [], "usage": self._usage()})
        await self.exchange.write(b"data: [DONE]\n\n")
        await self.exchange.end()

    async def _break(self, given: int) -> None:
        end = self.plan.end
        if end == "hang":
            await self.engine.release.wait()
        if end == "half":
            await self.exchange.write(b"data: " + json.dumps(self._token(given)).encode()[:40])
        if end in ("reset", "half", "hang"):
            self.exchange.abort()
            return
        if end == "abort":
            await self._send(self._chunk({"delta": {}} if self.chat else {"text": ""}, "abort"))
        if end in ("done_early", "abort"):
            await self.exchange.write(b"data: [DONE]\n\n")
        elif end == "garbage":
            await self.exchange.write(b"data: {not json\n\n")
        elif end != "eof":
            await self._send({"error": {"message": "secret", "type": "server_error", "code": end}})
        await self.exchange.end()

    def _token(self, at: int) -> dict[str, Any]:
        chunk = self._chunk({"delta": {"content": self.text[at]}} if self.chat else {"text": self.text[at]})
        if self.plan.ids and self.body.get("return_token_ids"):
            chunk["choices"][0]["token_ids"] = [self.ids[at]]
            if at == 0 and not self.chat:
                chunk["choices"][0] |= self._prompt()
        return chunk

    def _prompt(self) -> dict[str, Any]:
        asked = self.plan.ids and self.body.get("return_token_ids")
        return {"prompt_token_ids": self.prompt_ids} if asked else {}

    def _chunk(self, content: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return self._head(self._shape()) | {"choices": [{"index": 0, "finish_reason": reason} | content]}

    def _shape(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, shape: str) -> dict[str, Any]:
        # Each engine names its streams its own way: a client must see one name.
        return {"id": f"id-{self.engine.address}", "object": shape, "created": 1, "model": "scripted"}

    def _usage(self) -> dict[str, int]:
        read, made = len(self.prompt_ids), len(self.ids)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    async def _send(self, payload: dict[str, Any]) -> None:
        await self.exchange.write(b"data: " + json.dumps(payload).encode() + b"\n\n")


def _rendered(body: dict[str, Any]) -> str:
    text = "".join(f"<{message['role']}>{message['content']}</>" for message in body["messages"])
    return text.removesuffix("</>") if body.get("continue_final_message") else text + "<assistant>"


async def _json(exchange: Exchange, status: int, body: dict[str, Any]) -> None:
    await exchange.respond(status, [(b"content-type", b"application/json")], json.dumps(body).encode())


@dataclass
class Cutter:
    """A way to an engine that is cut once, in the middle of the event after `events` of them."""

    target: str
    events: int
    address: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stack.push_async_callback(self._stop, server)

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.gather(*self.tasks)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.partition(":")
        upstream, downstream = await asyncio.open_connection(host, int(port))
        self.writers += [writer, downstream]
        for pipe in (self._pipe(reader, downstream), self._pipe_cut(upstream, writer)):
            self.tasks.add(asyncio.create_task(pipe))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.transport.abort()

    async def _pipe_cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                parts = data.split(b"data: ")
                if 0 <= self.events < len(parts) - 1:
                    writer.write(b"data: ".join(parts[: self.events + 1]) + b"data: {")
                    await writer.drain()
                    self.events = -1
                    break
                self.events -= len(parts) - 1 if self.events >= 0 else 0
                writer.write(data)
        writer.close()
