"""The probe of the engine: ready is a token, and sick is no token twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from server.engine_watch import EngineFailed, EngineProbe
from server.http.client import UpstreamPool
from server.http.server import Exchange, HttpServer
from server.readiness import Readiness


@dataclass
class FakeEngine:
    """Answers like an OpenAI server; `answer` is what a completion says."""

    answer: tuple[int, object] = (200, {"choices": [{"text": "x"}]})
    hangs: bool = False
    asked: list[dict[str, object]] = field(default_factory=list)
    port: int = 0

    async def handle(self, exchange: Exchange) -> None:
        body = await exchange.request.body(1000)
        if exchange.request.path == "/v1/models":
            await exchange.respond(200, [], json.dumps({"data": [{"id": "some-model"}]}).encode())
            return
        self.asked.append(json.loads(body))
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        await exchange.respond(self.answer[0], [], json.dumps(self.answer[1]).encode())


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)


@dataclass
class Probing:
    engine: FakeEngine
    readiness: Readiness
    log: Log
    probe: Callable[..., EngineProbe]


@pytest.fixture
async def probing() -> AsyncIterator[Probing]:
    engine, log, pool = FakeEngine(), Log(), UpstreamPool()
    server = HttpServer(engine.handle)
    engine.port = await server.listen("127.0.0.1", 0)
    readiness = Readiness(["engine"], bool)

    def make(sleep=asyncio.sleep, port=None, clock=lambda: 0.0) -> EngineProbe:
        return EngineProbe(
            f"http://127.0.0.1:{port or engine.port}",
            pool,
            readiness,
            log=log,
            interval_s=5,
            timeout_s=0.2,
            start_s=60,
            clock=clock,
            sleep=sleep,
        )

    yield Probing(engine, readiness, log, make)
    await pool.aclose()
    await server.aclose(0)


async def test_a_token_is_asked_for(probing):
    """The probe generates one token with the model that the engine names."""
    assert await probing.probe().problem() is None
    assert probing.engine.asked == [{"model": "some-model", "prompt": "a", "max_tokens": 1, "temperature": 0}]


@pytest.mark.parametrize(
    "answer",
    [(500, {}), (200, {}), (200, []), (200, "x"), (200, {"choices": []}), (503, {"error": "Loading model"})],
)
async def test_an_answer_without_a_token_is_a_problem(probing, answer):
    """Whatever the engine says instead of a token, it is not ready."""
    probing.engine.answer = answer
    assert await probing.probe().problem()


async def test_silence_is_a_problem(probing):
    """An engine that takes the request and never answers is found out by the timeout."""
    probing.engine.hangs = True
    assert await probing.probe().problem() == "no token in time"


async def test_a_closed_port_is_a_problem(probing):
    """Engines open their port only when loaded."""
    assert "no connection" in (await probing.probe(port=1).problem() or "")


async def test_ready_comes_with_the_first_token_and_goes_with_two_failures(probing):
    """One failed probe under load is forgiven; the second makes the node unready, the next token ready."""
    seen: list[bool] = []
    answers = [(200, {"choices": [{}]}), (500, {}), (500, {}), (200, {"choices": [{}]})]

    async def sleep(seconds: float) -> None:
        assert seconds == 5
        seen.append(probing.readiness.ready)
        if len(seen) == len(answers):
            raise asyncio.CancelledError
        probing.engine.answer = answers[len(seen)]

    with pytest.raises(asyncio.CancelledError):
        await probing.probe(sleep).run()
    assert seen == [True, True, False, True]
    assert probing.log.events == ["engine.ready", "engine.sick", "engine.ready"]


async def test_an_engine_that_never_comes_up_is_given_up(probing):
    """After `start_s` the node ends with the last problem, so that it is replaced."""
    times = iter(range(0, 1000, 25))
    probing.engine.answer = (503, {})
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with pytest.raises(EngineFailed, match="no token in 60 s"):
        await probing.probe(sleep, clock=lambda: float(next(times))).run()
    assert len(pauses) == 2
    assert not probing.readiness.ready
