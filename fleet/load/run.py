"""One load: its rates one after another, each until its last answer has ended."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from goldenfleet_client import AsyncClient, ConfigurationError, NotAuthorised, Timeouts
from goldenfleet_client import GoldenfleetError as ClientError

from fleet.load.arrivals import Arrival, Lengths, arrivals
from fleet.load.errors import EndpointError, KeyRefusedError, LoadError
from fleet.load.figures import Figures, figures
from fleet.load.generator import Generator, words_per_token
from fleet.load.prompts import Prompts
from fleet.load.sample import Sample
from fleet.load.trace import read_trace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Load:
    """What is asked for. `trace` replaces `pattern` and `rates`; seconds and tokens throughout."""

    endpoint: str
    api_key: str | None = None
    model: str | None = None
    pattern: str = "poisson"
    rates: tuple[float, ...] = (1.0,)
    trace: Path | None = None
    speed: float = 1.0
    duration_s: float = 30.0
    lengths: Lengths = field(default=Lengths(128, 64))
    chat: bool = True
    most_at_once: int = 1000
    timeout_s: float = 120.0
    seed: int = 1


@dataclass(frozen=True)
class Stage:
    """Requests that are sent as one load."""

    rate: float
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True)
class Result:
    """`samples` are of the last stage; `stopped` tells that Ctrl-C came before the end."""

    stages: tuple[Figures, ...]
    samples: tuple[Sample, ...]
    model: str
    stopped: bool


def plan(load: Load) -> tuple[Stage, ...]:
    """Raises TraceError."""
    if load.trace is not None:
        found = read_trace(load.trace, speed=load.speed, duration_s=load.duration_s, most=load.lengths)
        return (Stage(len(found) / max(found[-1].at_s, 1.0), found),)
    return tuple(
        Stage(rate, arrivals(load.pattern, rate, load.duration_s, load.lengths, random.Random(load.seed)))
        for rate in load.rates
    )


async def run(load: Load, stages: Sequence[Stage], say: Say, lines: TextIO | None = None) -> Result:
    """Writes each sample to `lines` as it comes. Raises LoadError."""
    async with _client(load) as api:
        model, prompts = await _prepare(load, api)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await _Asking(load, model, api, prompts, lines, stop).all(stages, say)


def _client(load: Load) -> AsyncClient:
    """Raises EndpointError."""
    try:
        return AsyncClient(
            load.endpoint,
            api_key=load.api_key,
            timeouts=Timeouts(total=load.timeout_s, first_token=min(load.timeout_s, 60.0)),
        )
    except ConfigurationError as error:
        raise EndpointError(str(error), "Give an endpoint such as http://127.0.0.1:8088.") from error


async def _prepare(load: Load, api: AsyncClient) -> tuple[str, Prompts]:
    """The model, and prompts to the measure of its tokens. Raises LoadError."""
    chance = random.Random(load.seed)
    try:
        model = load.model or await _first_model(api)
        return model, Prompts(await words_per_token(api, model, chat=load.chat, chance=chance), chance)
    except NotAuthorised as error:
        raise KeyRefusedError(str(error), "Set GOLDENFLEET_API_KEY to a key of this endpoint.") from error
    except ClientError as error:
        hint = f"Is a fleet there? curl {load.endpoint}/ready says."
        raise LoadError(f"{load.endpoint} answers nobody: {error}", hint) from error


async def _first_model(api: AsyncClient) -> str:
    models = await api.models()
    if not models:
        raise LoadError("the endpoint serves no model now", "Wait for its model nodes, or name one: --model.")
    return models[0].id


class _Asking:
    """The stages of one load, against one model."""

    def __init__(
        self,
        load: Load,
        model: str,
        api: AsyncClient,
        prompts: Prompts,
        lines: TextIO | None,
        stop: asyncio.Event,
    ) -> None:
        self._model = model
        self._lines = lines
        self._stop = stop
        self._samples: list[Sample] = []
        self._generator = Generator(
            api,
            prompts,
            model=model,
            chat=load.chat,
            most_at_once=load.most_at_once,
            clock=time.monotonic,
            record=self._record,
        )

    async def all(self, stages: Sequence[Stage], say: Say) -> Result:
        found = []
        for stage in stages:
            say(f"{self._model}: {len(stage.arrivals)} requests at {stage.rate:.3g} a second")
            found.append(await self._one(stage))
            if self._stop.is_set():
                break
        return Result(tuple(found), tuple(self._samples), self._model, self._stop.is_set())

    async def _one(self, stage: Stage) -> Figures:
        self._samples.clear()
        began = time.monotonic()
        await self._generator.run(stage.arrivals, self._stop)
        return figures(self._samples, stage.rate, time.monotonic() - began)

    def _record(self, sample: Sample) -> None:
        self._samples.append(sample)
        if self._lines is not None:
            self._lines.write(sample.line())
