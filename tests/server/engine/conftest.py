"""An engine driven by hand, and one behind a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import uvicorn

from server.engine import api, chat, weights
from server.engine.cli import bind
from server.engine.config import Limits
from server.engine.detokenizer import Delta, Detokenizer
from server.engine.engine import Engine
from server.engine.model import Model
from server.engine.sampling import Sampling
from server.engine.scheduler import Running, Scheduler
from server.engine.tokenizer import END_OF_TEXT
from server.engine.weights import TrainedModel


@dataclass(frozen=True)
class Ask:
    """One request of a hand-driven run."""

    prompt: tuple[int, ...]
    max_tokens: int = 40
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    ignore_end: bool = False


@dataclass
class Told:
    """What came back for one Ask, delta by delta."""

    deltas: list[Delta] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token for delta in self.deltas for token in delta.token_ids)

    @property
    def finish_reason(self) -> str | None:
        return self.deltas[-1].finish_reason


class Bench:
    """Runs requests through scheduler and model, step by step, with no event loop."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def question(self, text: str) -> tuple[int, ...]:
        messages = [chat.Message("user", text)]
        rendered = chat.render(messages, add_generation_prompt=True, continue_final_message=False)
        return self.prompt(rendered)

    def prompt(self, text: str) -> tuple[int, ...]:
        return (END_OF_TEXT, *self.trained.tokenizer.encode(text))

    def sequence(self, ask: Ask, told: Told) -> Running:
        return Running(
            prompt=ask.prompt,
            max_tokens=ask.max_tokens,
            sampling=ask.sampling,
            detokenizer=Detokenizer(self.trained.tokenizer, ask.prompt, ask.stops),
            deliver=told.deltas.append,
            ignore_end=ask.ignore_end,
        )

    def model(self, limits: Limits) -> Model:
        return Model(self.trained.shape, self.trained.weights, limits.pages)

    def together(self, asks: Sequence[Ask], limits: Limits | None = None) -> list[Told]:
        limits = limits or Limits()
        model, scheduler = self.model(limits), Scheduler(limits)
        answers = [Told() for _ in asks]
        for ask, told in zip(asks, answers, strict=True):
            scheduler.add(self.sequence(ask, told))
        while (step := scheduler.plan()).slices:
            scheduler.apply(step, model.forward(step.slices))
        assert scheduler.pool.free == limits.pages
        return answers

    def alone(self, ask: Ask) -> Told:
        return self.together([ask])[0]


@dataclass(frozen=True)
class Served:
    """An engine that answers at `url`."""

    url: str
    engine: Engine
    stepping: asyncio.Task[None]


Serve = Callable[[Limits], Awaitable[Served]]


@pytest.fixture(scope="session")
def trained() -> TrainedModel:
    return weights.load()


@pytest.fixture(scope="session")
def bench(trained: TrainedModel) -> Bench:
    return Bench(trained)


@pytest.fixture
def ask() -> type[Ask]:
    return Ask


@pytest.fixture
def told() -> type[Told]:
    return Told


@pytest.fixture
async def serve(trained: TrainedModel) -> AsyncIterator[Serve]:
    """Starts engines on free ports, and stops them after the test."""
    started: list[tuple[uvicorn.Server, asyncio.Task[None], asyncio.Task[None]]] = []

    async def start(limits: Limits) -> Served:
        engine = Engine(trained, limits)
        stepping = asyncio.create_task(engine.run())
        listener = bind("127.0.0.1", 0)
        config = uvicorn.Config(
            api.build(engine, trained.fingerprint),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
        )
        server = uvicorn.Server(config)
        started.append((server, asyncio.create_task(server.serve(sockets=[listener])), stepping))
        return Served(f"http://127.0.0.1:{listener.getsockname()[1]}", engine, stepping)

    yield start
    for server, serving, stepping in started:
        server.should_exit = server.force_exit = True
        await serving
        stepping.cancel()
        with suppress(asyncio.CancelledError):
            await stepping


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve(Limits())
