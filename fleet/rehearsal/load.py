"""The clients of a rehearsal: a process of its own, so that measuring does not starve what is measured.

`python -m fleet.rehearsal.load --url URL --model NAME --clients N --seed N --out FILE` writes one Answer as a
JSON line per request until it gets SIGTERM; then it starts no request any more, finishes those that run, and
exits. After SIGUSR1 its clients think longer, until SIGUSR2: a quiet hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
from goldenfleet_client import AsyncClient, Generation, GoldenfleetError, StreamTruncated

from fleet.rehearsal.answers import EMBEDDED_MODEL, Answer, Kind, Question, questions

_THINK_SECONDS = (0.2, 1.2)  # keeps two cores busy, but not drowning, with this many clients:
_CLIENTS_AT_EASE = 40
_STREAMING_SHARE = 0.25  # of that: who reads a stream is soon back, so that any node has some at any moment
_QUIET = 100.0  # times as long a thought in a quiet hour
_AT_ONCE = 8  # questions that are asked together for their undisturbed answers

Record = Callable[[Answer], None]


class Pace:
    """Of all clients: as usual, or that of a quiet hour, in which each thinks much longer."""

    def __init__(self) -> None:
        self._usual = asyncio.Event()
        self._usual.set()

    def quieten(self) -> None:
        self._usual.clear()

    def quicken(self) -> None:
        """Whoever still thinks asks at once."""
        self._usual.set()

    async def linger(self, seconds: float) -> None:
        """Think on for so long, but only while the hour is quiet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._usual.wait()


class LoadClient:
    """One client in a closed loop: ask, read, think, ask again. Every second client streams."""

    def __init__(
        self,
        number: int,
        api: AsyncClient,
        asked: Sequence[Question],
        seed: int,
        record: Record,
        patience: float,
        pace: Pace,
    ) -> None:
        self._pace = pace
        self._number = number
        self._api = api
        self._asked = asked
        self._random = random.Random(f"{seed}/{number}")
        self._record = record
        self._patience = patience if number % 2 else patience * _STREAMING_SHARE

    async def run(self, stop: asyncio.Event) -> None:
        while not await self._think(stop):
            question = self._random.choice(self._asked)
            self._record(await ask(self._api, question, self._kind(question), self._number))

    def _kind(self, question: Question) -> Kind:
        if self._number % 2:
            return "chat" if question.chat else "generate"
        return "chat_stream" if question.chat else "generate_stream"

    async def _think(self, stop: asyncio.Event) -> bool:
        """Whether it is time to stop."""
        thought = self._random.uniform(*_THINK_SECONDS) * self._patience
        try:
            async with asyncio.timeout(thought):
                return await stop.wait()
        except TimeoutError:
            await self._pace.linger(thought * _QUIET)
            return stop.is_set()


async def ask(api: AsyncClient, question: Question, kind: Kind, client: int = 0) -> Answer:
    """Ask once and note whatever comes of it; never raises what the client library raises on purpose."""
    started = time.time()
    first: list[float] = []
    try:
        said = await _said(api, question, kind, lambda: first.append(time.time()))
    except GoldenfleetError as error:
        result = _failed(error)
    else:
        result = {
            "text": said.text,
            "finish_reason": said.finish_reason,
            "attempts": said.attempts,
            "resumes": said.resumes,
            "exact": said.exact,
        }
    ttft = first[0] - started if first else None
    return Answer(client, kind, question.key, started, time.time(), ttft, **result)


def _failed(error: GoldenfleetError) -> dict[str, Any]:
    return {
        "text": error.text,
        "finish_reason": None,
        "attempts": error.attempts,
        "resumes": 0,
        "exact": True,
        "error": f"{type(error).__name__}: {error}",
        "cut": isinstance(error, StreamTruncated),
    }


async def _said(api: AsyncClient, question: Question, kind: Kind, on_chunk: Callable[[], None]) -> Generation:
    messages = [{"role": "user", "content": question.prompt}]
    if kind == "generate":
        return await api.generate(question.prompt, max_tokens=question.max_tokens, temperature=0.0)
    if kind == "chat":
        return await api.chat(messages, max_tokens=question.max_tokens, temperature=0.0)
    if kind == "generate_stream":
        stream = api.generate_stream(question.prompt, max_tokens=question.max_tokens, temperature=0.0)
    else:
        stream = api.chat_stream(messages, max_tokens=question.max_tokens, temperature=0.0)
    async with stream:
        async for _ in stream:
            on_chunk()
        return stream.result


async def undisturbed(url: str, asked: Sequence[Question]) -> Mapping[str, str]:
    """Every question's answer by an engine that nothing interrupts: key -> text. Raises GoldenfleetError."""
    at_once = asyncio.Semaphore(_AT_ONCE)
    async with AsyncClient(url, model=EMBEDDED_MODEL) as api:

        async def one(question: Question) -> tuple[str, str]:
            async with at_once:
                said = await _said(api, question, "chat" if question.chat else "generate", lambda: None)
            return question.key, said.text

        return dict(await asyncio.gather(*map(one, asked)))


async def run_load(
    url: str,
    clients: int,
    seed: int,
    record: Record,
    stop: asyncio.Event,
    models: Sequence[str] = (EMBEDDED_MODEL,),
    pace: Pace | None = None,
) -> None:
    """Run `clients` clients until `stop`; returns when the last of them has read its last answer.

    The more there are, the longer each thinks: what they ask for together is what the machine can give.
    Of several models each has its clients, those that stream and others.
    """
    patience = max(1.0, clients / _CLIENTS_AT_EASE)
    pace = pace or Pace()
    context = ssl.create_default_context()  # costs more than everything else in a client: one for all
    async with AsyncExitStack() as open_clients, asyncio.TaskGroup() as tasks:
        for number in range(clients):
            model = models[number // 2 % len(models)]
            api = await open_clients.enter_async_context(
                AsyncClient(url, model=model, verify=context, random=random.Random(f"{seed}-{number}").random)
            )
            client = LoadClient(number, api, questions(), seed, record, patience, pace)
            tasks.create_task(client.run(stop))


async def _until_told_to_stop(url: str, models: Sequence[str], clients: int, seed: int, out: Path) -> None:
    stop, pace, loop = asyncio.Event(), Pace(), asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        pace.quicken()

    orders = {signal.SIGTERM: end, signal.SIGUSR1: pace.quieten, signal.SIGUSR2: pace.quicken}
    for number, told in orders.items():
        loop.add_signal_handler(number, told)
    with out.open("a", buffering=1) as lines:

        def record(answer: Answer) -> None:
            lines.write(answer.line())

        await run_load(url, clients, seed, record, stop, models, pace)


@click.command()
@click.option("--url", required=True)
@click.option("--model", "models", multiple=True, default=[EMBEDDED_MODEL])
@click.option("--clients", type=int, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(url: str, models: tuple[str, ...], clients: int, seed: int, out: Path) -> None:
    asyncio.run(_until_told_to_stop(url, models, clients, seed, out))


if __name__ == "__main__":
    main()
