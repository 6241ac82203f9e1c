"""A gateway over engines that follow a script, each on a real loopback socket."""

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

# Before numpy is loaded: one BLAS thread is part of what makes greedy output repeatable.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import aiohttp
import pytest
import uvicorn

from server.app import App, build_app
from server.drain import Drain
from server.engine import api, weights
from server.engine.cli import bind
from server.engine.config import Limits
from server.engine.engine import Engine
from server.engine.weights import TrainedModel
from server.http.exchange import Exchange
from server.http.server import HttpServer
from server.readiness import Readiness
from server.settings import Settings
from server.telemetry import Telemetry, open_log
from server.upstreams import NodeSet
from server.wire.sse import SseParser

PATIENCE_S = 15.0
LETTERS = "abcdefghijklmnopqrstuvwxyzäöü€"


@dataclass(frozen=True)
class Plan:
    """What a scripted engine does with one generation: how many tokens it gives, and how it ends.

    `end`: done | reset | eof | half (an event cut in two) | an error event's code | hang.
    A `status` other than 200 is answered instead.
    """

    tokens: int | None = None
    end: str = "done"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ids: bool = True
    body: bytes = b'{"error":{"message":"secret of the node","type":"x","param":null,"code":"x"}}'


@dataclass
class ScriptedEngine:
    """One token is one character, and which one depends on its position alone, as greedy decoding would."""

    plans: list[Plan] = field(default_factory=list)
    default: Plan = field(default_factory=Plan)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    address: str = ""
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def found(self) -> dict[str, tuple[str, int]]:
        """This engine as discovery would find it."""
        host, _, port = self.address.partition(":")
        return {self.address: (host, int(port))}

    async def handle(self, exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models":
            models = {"object": "list", "data": [{"id": "scripted", "object": "model", "max_model_len": 300}]}
            await _json(exchange, 200, models)
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
        if plan.status != 200:
            await exchange.respond(
                plan.status, [(b"content-type", b"application/json"), *plan.headers], plan.body
            )
            return
        writer = Writing(exchange, body, plan, self)
        await (writer.stream() if body.get("stream") else writer.whole())


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
        if self.plan.end != "done":
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
        if self.plan.end == "done" and given == len(self.ids):
            await self._finish()
            return
        await self._break(given)

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
        if end == "done_early":
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


@dataclass(frozen=True)
class Answer:
    """What a client got: `clean` is whether the body ended as HTTP says it must."""

    status: int
    headers: dict[str, str]
    body: bytes
    clean: bool

    @property
    def data(self) -> list[Any]:
        """Each event's JSON, `[DONE]` as it is."""
        found = [event.data for event in SseParser().feed(self.body) if event.data is not None]
        return [item.decode() if item == b"[DONE]" else json.loads(item) for item in found]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """All text of a stream, of either wire format."""
        tokens = "".join(item["token"]["text"] for item in self.data if "token" in item)
        choices = [c for item in self.data if isinstance(item, dict) for c in item.get("choices", ())]
        return tokens + "".join((c.get("delta") or {}).get("content") or c.get("text") or "" for c in choices)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an error answer, or of the event that ended a stream."""
        found = self.json if self.status != 200 else self.data[-1]
        assert isinstance(found["error"], dict)
        return found["error"]


@dataclass
class Serving:
    """An App of either role behind its HTTP server."""

    app: App
    nodes: NodeSet
    drain: Drain
    readiness: Readiness
    telemetry: Telemetry
    server: HttpServer
    port: int
    log_lines: io.StringIO
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under `name`."""
        lines = [json.loads(line) for line in self.log_lines.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        async with (
            asyncio.timeout(PATIENCE_S),
            self.session.request(method, self.url + path, data=raw, headers=headers) as response,
        ):
            got, clean = b"", True
            try:
                async for piece in response.content.iter_any():
                    got += piece
            except aiohttp.ClientPayloadError:
                clean = False
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, headers, got, clean)

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        return await self.ask("POST", path, body, headers)


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


@dataclass
class Stage:
    """Starts what a test needs, and stops it after the test."""

    stack: AsyncExitStack
    session: aiohttp.ClientSession
    rng: Random = field(default_factory=lambda: Random(7))

    async def engine(self, *plans: Plan, default: Plan | None = None) -> ScriptedEngine:
        engine = ScriptedEngine(list(plans), default or Plan())
        server = HttpServer(engine.handle)
        port = await server.listen("127.0.0.1", 0)
        self.stack.push_async_callback(server.aclose, 0)
        self.stack.callback(engine.release.set)
        engine.address = f"127.0.0.1:{port}"
        return engine

    async def embedded(self, trained: TrainedModel) -> str:
        """The address of the real engine, serving."""
        engine = Engine(trained, Limits())
        stepping = asyncio.create_task(engine.run())
        self.stack.push_async_callback(_ended, stepping)
        listener = self.stack.enter_context(bind("127.0.0.1", 0))
        application = api.build(engine, trained.fingerprint)
        config = uvicorn.Config(application, lifespan="off", ws="none", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))

        async def stop() -> None:
            server.should_exit = server.force_exit = True
            await serving

        self.stack.push_async_callback(stop)
        return f"127.0.0.1:{listener.getsockname()[1]}"

    async def cutter(self, target: str, events: int) -> Cutter:
        cutter = Cutter(target, events)
        await cutter.serve(self.stack)
        return cutter

    async def gateway(self, *addresses: str, **settings: Any) -> Serving:
        fields = {"role": "gateway", "nodes": "static:" + ",".join(addresses)} | settings
        return await self.serve(Settings.model_validate({"stack": "test"} | fields))

    async def node(self, engine_address: str, **settings: Any) -> Serving:
        fields = {"role": "model", "engine_url": f"http://{engine_address}"} | settings
        serving = await self.serve(Settings.model_validate({"stack": "test"} | fields))
        serving.readiness.set("engine", True)
        return serving

    async def serve(self, settings: Settings) -> Serving:
        lines = io.StringIO()
        phases: list[str] = []
        ready: list[bool] = []
        log = open_log(role=settings.role, instance_id="i-test", file=lines)
        telemetry = Telemetry(log)
        drain = Drain(
            clock=time.time, call_later=asyncio.get_running_loop().call_later, log=log, entered=phases.append
        )
        conditions = ["nodes" if settings.role == "gateway" else "engine"]
        readiness = Readiness(conditions, ready.append)
        app = build_app(settings, drain, telemetry, readiness, rng=self.rng)
        await self.stack.enter_async_context(app)
        server = HttpServer(app.handle, failed=telemetry.failed)
        port = await server.listen("127.0.0.1", 0)
        self.stack.push_async_callback(server.aclose, 0)
        return Serving(app, app.nodes, drain, readiness, telemetry, server, port, lines, self.session)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="session")
def trained() -> TrainedModel:
    return weights.load()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Stage(stack, session)


@pytest.fixture
def plan() -> type[Plan]:
    return Plan


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits for a condition by letting the loop run, for `PATIENCE_S` seconds at most."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  any state of any object may be the condition
                await asyncio.sleep(0)

    return wait
