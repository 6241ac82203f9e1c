"""One load: its rates one after another, each until its last answer has ended."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from goldenfleet_client import AsyncClient, ConfigurationError, InvalidRequest, NotAuthorised, Timeouts
from goldenfleet_client import GoldenfleetError as ClientError

from fleet.load.arrivals import MOST_REQUESTS, Arrival, Lengths, arrivals
from fleet.load.errors import EndpointError, KeyRefusedError, LoadError, ModelError
from fleet.load.figures import Figures, Tally
from fleet.load.generator import Generator, words_per_token
from fleet.load.prompts import Prompts
from fleet.load.sample import Sample
from fleet.load.trace import read_trace

Say = Callable[[str], None]

# Beside one connection for each request under way.
_OTHER_FILES = 64


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
    """`samples` are of the last stage, without their gaps; `stopped` tells that Ctrl-C came before the end,
    `unwritten` why there is not a line for each sample."""

    stages: tuple[Figures, ...]
    samples: tuple[Sample, ...]
    model: str
    stopped: bool
    unwritten: str | None


def plan(load: Load) -> tuple[Stage, ...]:
    """Raises TraceError, and LoadError where it is too much for one process."""
    if load.trace is not None:
        found = read_trace(load.trace, speed=load.speed, duration_s=load.duration_s, most=load.lengths)
        _check_number(len(found))
        return (Stage(len(found) / max(found[-1].at_s, 1.0), found),)
    _check_number(load.duration_s * sum(load.rates))
    return tuple(
        Stage(rate, arrivals(load.pattern, rate, load.duration_s, load.lengths, random.Random(load.seed)))
        for rate in load.rates
    )


def _check_number(requests: float) -> None:
    if requests > MOST_REQUESTS:
        raise LoadError(
            f"more than {MOST_REQUESTS:,} requests are due",
            "Lower --rate or --duration, or run several loads.",
        )


def allow_connections(most_at_once: int) -> None:
    """Raises this process's limit on open files, so that a connection that could not be opened is not taken
    for one that the service lost. Raises LoadError where the system allows less."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most_at_once + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise LoadError(
            f"{most_at_once} requests at once need {needed} open files; the system allows {hard}",
            "Lower --most-at-once, or raise the limit (ulimit -Hn).",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def run(load: Load, stages: Sequence[Stage], say: Say, lines: BinaryIO | None = None) -> Result:
    """Writes each sample to `lines`, which is not buffered, as it comes. Raises LoadError."""
    async with _client(load) as api:
        model, prompts = await _prepare(load, api)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await _Asking(load, model, api, prompts, lines, stop, say).all(stages)


def _client(load: Load) -> AsyncClient:
    """Raises EndpointError."""
    try:
        return AsyncClient(
            load.endpoint,
            api_key=load.api_key,
            timeouts=Timeouts(total=load.timeout_s, first_token=min(load.timeout_s, 60.0)),
        )
    except ConfigurationError as error:
        hint = "An endpoint is a URL such as http://127.0.0.1:8088; GOLDENFLEET_API_KEY holds one line."
        raise EndpointError(str(error), hint) from error


async def _prepare(load: Load, api: AsyncClient) -> tuple[str, Prompts]:
    """The model, and prompts to the measure of its tokens. Raises LoadError."""
    chance = random.Random(load.seed)
    try:
        model = load.model or await _first_model(api)
        return model, Prompts(await words_per_token(api, model, chat=load.chat, chance=chance), chance)
    except NotAuthorised as error:
        raise KeyRefusedError(str(error), "Set GOLDENFLEET_API_KEY to a key of this endpoint.") from error
    except InvalidRequest as error:
        if error.status != 404 or load.model is None:
            raise LoadError(f"{load.endpoint} refuses what would be asked: {error}") from error
        hint = f"Leave --model out, or see what there is: curl {load.endpoint}/v1/models"
        raise ModelError(f"{load.endpoint} does not serve {load.model}: {error}", hint) from error
    except ClientError as error:
        hint = f"Is a fleet there? curl {load.endpoint}/ready says."
        raise LoadError(f"{load.endpoint} answers nobody: {error}", hint) from error


async def _first_model(api: AsyncClient) -> str:
    models = await api.models()
    if not models:
        raise ModelError(
            "the endpoint serves no model now", "Wait for its model nodes, or name one: --model."
        )
    return models[0].id


class _Asking:
    """The stages of one load, against one model."""

    def __init__(
        self,
        load: Load,
        model: str,
        api: AsyncClient,
        prompts: Prompts,
        lines: BinaryIO | None,
        stop: asyncio.Event,
        say: Say,
    ) -> None:
        self._model = model
        self._lines = lines
        self._unwritten: str | None = None
        self._stop = stop
        self._say = say
        self._samples: list[Sample] = []
        self._tally = Tally()
        self._generator = Generator(
            api,
            prompts,
            model=model,
            chat=load.chat,
            most_at_once=load.most_at_once,
            clock=time.monotonic,
            record=self._record,
        )

    async def all(self, stages: Sequence[Stage]) -> Result:
        found = []
        for stage in stages:
            self._say(f"{self._model}: {len(stage.arrivals)} requests at {stage.rate:.3g} a second")
            found.append(await self._one(stage))
            if self._stop.is_set():
                break
        stopped = self._stop.is_set()
        return Result(tuple(found), tuple(self._samples), self._model, stopped, self._unwritten)

    async def _one(self, stage: Stage) -> Figures:
        self._samples.clear()
        self._tally = Tally()
        began = time.monotonic()
        await self._generator.run(stage.arrivals, self._stop)
        return self._tally.figures(stage.rate, time.monotonic() - began)

    def _record(self, sample: Sample) -> None:
        self._tally.add(sample)
        self._samples.append(replace(sample, gaps_s=()))
        if self._lines is None:
            return
        try:
            self._lines.write(sample.line())
        except OSError as error:
            self._lines, self._unwritten = None, f"--out could not be written to its end: {error}"
