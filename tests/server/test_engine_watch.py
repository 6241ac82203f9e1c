"""The probe of the engine: ready is a token, and sick is no token twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from server.engine_watch import EngineFailed, EngineProbe, engine_address
from server.engines import ADAPTERS
from server.http.client import UpstreamPool
from server.http.server import Exchange, HttpServer
from server.readiness import Readiness


@dataclass
class FakeEngine:
    """Answers like an OpenAI server; `answer` is what a completion says."""

    answer: tuple[int, object] = (200, {"choices": [{"text": "x"}]})
    hangs: bool = False
    asked: list[dict[str, object]] = field(default_factory=list)
    metrics: tuple[int, bytes] = (404, b"")
    port: int = 0

    async def handle(self, exchange: Exchange) -> None:
        body = await exchange.request.body(1000)
        if exchange.request.path == "/v1/models":
            await exchange.respond(200, [], json.dumps({"data": [{"id": "some-model"}]}).encode())
            return
        if exchange.request.path == "/metrics":
            await exchange.respond(self.metrics[0], [], self.metrics[1])
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

    def make(sleep=asyncio.sleep, port=None, clock=lambda: 0.0, kind="embedded") -> EngineProbe:
        return EngineProbe(
            f"http://127.0.0.1:{port or engine.port}",
            ADAPTERS[kind],
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


def _sleep_through(answers: list[tuple[int, object]], engine: FakeEngine, look: Callable[[], object]):
    """A sleep between probes, in which the engine takes its next answer and `look` is noted."""
    seen: list[object] = []

    async def sleep(_: float) -> None:
        seen.append(look())
        if len(seen) == len(answers):
            raise asyncio.CancelledError
        engine.answer = answers[len(seen)]

    return sleep, seen


async def test_a_full_engine_is_not_sick(probing):
    """TGI refuses with 429 what is over its limit; however often, its node stays ready."""
    answers = [(200, {"choices": [{}]}), *[(429, {"error": "Model is overloaded"})] * 4]
    sleep, seen = _sleep_through(answers, probing.engine, lambda: probing.readiness.ready)
    with pytest.raises(asyncio.CancelledError):
        await probing.probe(sleep, kind="tgi").run()
    assert seen == [True] * 5


async def test_the_engine_s_own_metrics_are_read_after_each_token(probing):
    """Queue, running and KV use have one name each for all engines; a page that is lost is unknown."""
    page = b"sglang:num_queue_reqs 3.0\nsglang:num_running_reqs 2.0\nsglang:token_usage 0.25\n"
    pages = [(200, page), (200, b"{not prometheus"), (500, page)]
    probing.engine.metrics = pages[0]
    seen: list[object] = []

    async def sleep(_: float) -> None:
        seen.append(probe.snapshot())
        if len(seen) == len(pages):
            raise asyncio.CancelledError
        probing.engine.metrics = pages[len(seen)]

    probe = probing.probe(sleep, kind="sglang")
    assert probe.snapshot()["state"] == "loading"
    with pytest.raises(asyncio.CancelledError):
        await probe.run()
    known = {"kind": "sglang", "state": "ready", "problem": None}
    unknown = dict.fromkeys(("queued", "running", "kv_used_ratio"))
    assert seen == [
        known | {"queued": 3.0, "running": 2.0, "kv_used_ratio": 0.25},
        known | unknown,
        known | unknown,
    ]


async def test_the_state_says_loading_then_ready_then_sick(probing):
    """What GET /state shows of an engine follows its probes."""
    answers = [(200, {"choices": [{}]}), (500, {}), (500, {})]
    probing.engine.answer = answers[0]
    sleep, seen = _sleep_through([*answers, answers[0]], probing.engine, lambda: probe.snapshot()["state"])
    probe = probing.probe(sleep)
    with pytest.raises(asyncio.CancelledError):
        await probe.run()
    assert seen == ["ready", "ready", "sick", "ready"]


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("http://127.0.16.4:8000", ("127.0.16.4", 8000)),
        ("http://0.0.0.0:8000", ("127.0.0.1", 8000)),
        ("http://[::]:9", ("127.0.0.1", 9)),
        ("http://engine.internal:8000", ("engine.internal", 8000)),
    ],
)
def test_an_engine_is_on_one_address(base_url, address):
    """A node that serves on every address keeps its engine on loopback, closed to outside."""
    assert engine_address(base_url) == address


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
