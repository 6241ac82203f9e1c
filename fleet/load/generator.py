"""Sends requests when they are due, and notes what came of each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from goldenfleet_client import (
    AsyncClient,
    AsyncStream,
    Generation,
    GoldenfleetError,
    RequestRefused,
    StreamTruncated,
)

from fleet.load.arrivals import Arrival
from fleet.load.prompts import Prompts
from fleet.load.sample import Outcome, Sample

_PROBE_WORDS = 200


async def words_per_token(api: AsyncClient, model: str, *, chat: bool, chance: random.Random) -> float:
    """Of `model`, by asking it for one token. Raises the client's GoldenfleetError."""
    stream = _stream(api, model, Prompts(1.0, chance).of(_PROBE_WORDS), 1, chat=chat)
    async with stream:
        async for _ in stream:
            pass
    usage = stream.result.usage
    return _PROBE_WORDS / usage.prompt_tokens if usage and usage.prompt_tokens else 1.0


class Generator:
    """An open loop: nothing waits for an answer before it sends. `most_at_once` bounds this process, not the
    load: a request beyond it is counted as unsent, never put off. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        api: AsyncClient,
        prompts: Prompts,
        *,
        model: str,
        chat: bool,
        most_at_once: int,
        clock: Callable[[], float],
        record: Callable[[Sample], None],
    ) -> None:
        self._api = api
        self._prompts = prompts
        self._model = model
        self._chat = chat
        self._most = most_at_once
        self._clock = clock
        self._record = record
        self._running: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        return len(self._running)

    async def run(self, arrivals: Sequence[Arrival], stop: asyncio.Event) -> None:
        """Returns when the last answer has ended, or soon after `stop`: what runs then is dropped."""
        began = self._clock()
        for arrival in arrivals:
            if await _stopped(stop, began + arrival.at_s - self._clock()):
                break
            self._begin(arrival, began)
        await self._finish(stop)

    def _begin(self, arrival: Arrival, began: float) -> None:
        if len(self._running) >= self._most:
            self._record(Sample(arrival.at_s, "unsent"))
            return
        task = asyncio.create_task(self._ask(arrival, began + arrival.at_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _finish(self, stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        while self._running and not stopped.done():
            await asyncio.wait({*self._running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _ask(self, arrival: Arrival, due: float) -> None:
        prompt = self._prompts.of(arrival.lengths.prompt_tokens)
        late_s, moments = self._clock() - due, list[float]()
        stream = _stream(self._api, self._model, prompt, arrival.lengths.output_tokens, chat=self._chat)
        said: Generation | GoldenfleetError
        try:
            async with stream:
                async for chunk in stream:
                    if chunk.text:
                        moments.append(self._clock())
            said = stream.result
        except GoldenfleetError as error:
            said = error
        self._record(_sample(arrival.at_s, due, late_s, moments, self._clock(), said))


def _sample(
    due_s: float,
    due: float,
    late_s: float,
    moments: Sequence[float],
    ended: float,
    said: Generation | GoldenfleetError,
) -> Sample:
    began = Sample(
        due_s,
        "ok",
        late_s=late_s,
        ttft_s=moments[0] - due if moments else None,
        gaps_s=tuple(after - before for before, after in pairwise(moments)),
        output_tokens=len(moments),
        attempts=said.attempts,
    )
    if isinstance(said, GoldenfleetError):
        return replace(began, outcome=_outcome(said), error=f"{type(said).__name__}: {said}")
    whole = replace(began, total_s=ended - due, resumes=said.resumes)
    if said.usage is None:
        return whole
    return replace(whole, prompt_tokens=said.usage.prompt_tokens, output_tokens=said.usage.completion_tokens)


def _outcome(error: GoldenfleetError) -> Outcome:
    if isinstance(error, RequestRefused):
        return "refused"
    return "truncated" if isinstance(error, StreamTruncated) else "lost"


def _stream(api: AsyncClient, model: str, prompt: str, max_tokens: int, *, chat: bool) -> AsyncStream:
    if chat:
        return api.chat_stream([{"role": "user", "content": prompt}], model=model, max_tokens=max_tokens)
    return api.generate_stream(prompt, model=model, max_tokens=max_tokens)


async def _stopped(stop: asyncio.Event, after_s: float) -> bool:
    """Whether `stop` came within `after_s` seconds."""
    if after_s <= 0:
        return stop.is_set()
    try:
        async with asyncio.timeout(after_s):
            return await stop.wait()
    except TimeoutError:
        return False
