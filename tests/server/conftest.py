"""A gateway over engines that follow a script, each on a real loopback socket."""

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any

# Before numpy is loaded: one BLAS thread is part of what makes greedy output repeatable.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import aiohttp
import pytest
import uvicorn

from server.app import App, build_app
from server.drain import Drain, Phase
from server.engine import api, weights
from server.engine.cli import bind
from server.engine.config import Limits
from server.engine.engine import Engine
from server.engine.weights import TrainedModel
from server.http.server import HttpServer
from server.readiness import Readiness
from server.settings import Settings
from server.telemetry import Telemetry, open_log
from server.tracing import Tracing, open_tracing
from server.upstreams import NodeSet
from server.wire.sse import SseParser
from tests.server.scripted import Cutter, Plan, ScriptedEngine

PATIENCE_S = 15.0


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
    tracing: Tracing | None = None

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
class Stage:
    """Starts what a test needs, and stops it after the test."""

    stack: AsyncExitStack
    session: aiohttp.ClientSession
    rng: Random = field(default_factory=lambda: Random(7))
    servers: dict[str, HttpServer] = field(default_factory=dict)

    async def engine(self, *plans: Plan, default: Plan | None = None) -> ScriptedEngine:
        engine = ScriptedEngine(list(plans), default or Plan())
        server = HttpServer(engine.handle)
        port = await server.listen("127.0.0.1", 0)
        self.stack.push_async_callback(server.aclose, 0)
        self.stack.callback(engine.release.set)
        engine.address = f"127.0.0.1:{port}"
        self.servers[engine.address] = server
        return engine

    async def vanish(self, engine: ScriptedEngine) -> None:
        """Nothing listens at the engine's address any more, and what it was saying is cut."""
        await self.servers.pop(engine.address).aclose(0)

    async def listen(self, engine: ScriptedEngine) -> None:
        """The engine serves at its address again."""
        server = HttpServer(engine.handle)
        await server.listen(*engine.found[engine.address])
        self.stack.push_async_callback(server.aclose, 0)

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
        fields = {"role": "gateway", "nodes": "static:" + ",".join(addresses), "auth": "off"} | settings
        return await self.serve(Settings.model_validate({"stack": "test"} | fields))

    async def node(self, engine_address: str, **settings: Any) -> Serving:
        fields = {"role": "model", "engine_url": f"http://{engine_address}"} | settings
        serving = await self.serve(Settings.model_validate({"stack": "test"} | fields))
        serving.readiness.set("engine", True)
        return serving

    async def serve(self, settings: Settings) -> Serving:
        lines = io.StringIO()
        ready: list[bool] = []
        log = open_log(role=settings.role, instance_id="i-test", file=lines)
        telemetry = Telemetry(log)

        def entered(phase: Phase) -> None:
            # As server/process.py does.
            server.closing = phase != "serving"
            if phase == "empty" and drain.running:
                server.cut()

        drain = Drain(
            clock=time.time, call_later=asyncio.get_running_loop().call_later, log=log, entered=entered
        )
        conditions = ["nodes" if settings.role == "gateway" else "engine"]
        readiness = Readiness(conditions, ready.append)
        tracing = None
        if settings.traces_url is not None:
            tracing = open_tracing(
                settings, "i-test", telemetry.metrics, log, rng=self.rng, clock=time.monotonic
            )
            self.stack.push_async_callback(tracing.aclose, 1.0)
        app = build_app(settings, drain, telemetry, readiness, rng=self.rng, tracing=tracing)
        await self.stack.enter_async_context(app)
        server = HttpServer(app.handle, failed=telemetry.failed)
        port = await server.listen("127.0.0.1", 0)
        self.stack.push_async_callback(server.aclose, 0)
        return Serving(
            app, app.nodes, drain, readiness, telemetry, server, port, lines, self.session, tracing
        )


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
