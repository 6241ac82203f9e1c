"""Two engines, steady requests, and one engine fails in the middle: what do clients notice?"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.answers import Asked, ask, status_of, text_in
from bench.gateways import HEADERS, Running, Spec
from bench.load import StreamClient, connected
from bench.stage import FakeEngine, Stage, asked_once

PACE_MS = 20.0


@dataclass(frozen=True)
class Offered:
    """Requests per second and their sizes in tokens. A client waits `patience_s` for its whole answer."""

    seconds: float = 9.0
    unary_per_s: float = 12.0
    unary_tokens: int = 16
    streams_per_s: float = 6.0
    stream_tokens: int = 64
    event_at: float = 0.45
    patience_s: float = 10.0


@dataclass(frozen=True)
class Noticed:
    """Counts of requests, and the longest wait for a whole answer, failures left out."""

    unary: int
    unary_failed: int
    streams: int
    streams_failed: int
    streams_truncated: int
    wrong: int
    slowest_unary_s: float
    slowest_first_token_s: float
    longest_gap_s: float

    @property
    def lost(self) -> int:
        """Requests that a client would complain of."""
        return self.unary_failed + self.streams_failed + self.streams_truncated + self.wrong

    def __add__(self, other: Noticed) -> Noticed:
        """Counts of both, and the longer waits."""
        mine, theirs = asdict(self), asdict(other)
        return Noticed(
            **{
                name: max(mine[name], theirs[name]) if name.endswith("_s") else mine[name] + theirs[name]
                for name in mine
            }
        )


async def _kill(engine: FakeEngine) -> None:
    engine.signal(signal.SIGKILL)


async def _terminate(engine: FakeEngine) -> None:
    engine.signal(signal.SIGTERM)


async def _stop(engine: FakeEngine) -> None:
    engine.signal(signal.SIGSTOP)


async def _refuse(engine: FakeEngine) -> None:
    await engine.set(failing="unavailable")


async def _reset(engine: FakeEngine) -> None:
    await engine.set(failing="reset-kept")


FAULTS: dict[str, Callable[[FakeEngine], Awaitable[None]]] = {
    "SIGKILL": _kill,
    "503": _refuse,
    "SIGTERM": _terminate,
    "resets": _reset,
    "SIGSTOP": _stop,
}


@dataclass(frozen=True)
class Prepared:
    """A gateway of its own over two engines of its own."""

    gateway: Running
    engines: Sequence[FakeEngine]

    async def strike(self, fault: str, offered: Offered) -> Noticed:
        """The engine that is busier when the moment comes is struck: no gateway is spared by its choice."""
        load = _Load(self.gateway, offered)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._strike(fault, offered.seconds * offered.event_at))
            tasks.create_task(load.run())
        return load.noticed()

    async def _strike(self, fault: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        running = [len((await engine.state())["running"]) for engine in self.engines]
        await FAULTS[fault](self.engines[running.index(max(running))])


async def prepare(stage: Stage, spec: Spec) -> Prepared:
    """Raises ProcessFailed."""
    engines = await stage.engines(2)
    gateway = await stage.gateway(spec, [engine.address for engine in engines])
    for engine in engines:
        await engine.set(pace_ms=PACE_MS)
    return Prepared(gateway, engines)


class _Load:
    """Requests that begin when they are due, whatever became of those before."""

    def __init__(self, gateway: Running, offered: Offered) -> None:
        self._gateway = gateway
        self._offered = offered
        self._counts: Counter[str] = Counter()
        self._unary_s = [0.0]
        self._first_s = [0.0]
        self._gap_s = [0.0]

    async def run(self) -> None:
        offered = self._offered
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._begin_each(tasks, offered.unary_per_s, self._unary))
            tasks.create_task(self._begin_each(tasks, offered.streams_per_s, self._stream))

    async def _begin_each(
        self,
        tasks: asyncio.TaskGroup,
        per_s: float,
        one: Callable[[int], Coroutine[Any, Any, None]],
    ) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(int(self._offered.seconds * per_s)):
            await asyncio.sleep(began + number / per_s - loop.time())
            tasks.create_task(one(number))

    async def _unary(self, number: int) -> None:
        asked = ask(number % 1000, self._offered.unary_tokens, stream=False, headers=HEADERS)
        began = time.monotonic()
        answer = await asked_once(self._gateway.address, asked, self._offered.patience_s)
        self._counts["unary"] += 1
        if status_of(answer) != 200:
            self._counts["unary_failed"] += 1
            return
        self._counts["wrong"] += text_in(answer) != asked.expected
        self._unary_s.append(time.monotonic() - began)

    async def _stream(self, number: int) -> None:
        asked = ask(number % 1000, self._offered.stream_tokens, stream=True, headers=HEADERS)
        self._counts["streams"] += 1
        client = StreamClient()
        try:
            await connected(self._gateway.address, client)
        except (OSError, TimeoutError):
            self._counts["failed"] += 1
            return
        await self._read(client, asked)

    async def _read(self, client: StreamClient, asked: Asked) -> None:
        result = client.start(asked)
        late = asyncio.get_running_loop().call_later(self._offered.patience_s, client.late)
        stream = await result
        late.cancel()
        client.hang_up()
        self._counts[stream.verdict] += 1
        if stream.verdict == "ok":
            self._first_s.append(stream.first_s or 0.0)
            self._gap_s += stream.gaps_s

    def noticed(self) -> Noticed:
        counts = self._counts
        return Noticed(
            unary=counts["unary"],
            unary_failed=counts["unary_failed"],
            streams=counts["streams"],
            streams_failed=counts["failed"],
            streams_truncated=counts["truncated"],
            wrong=counts["wrong"],
            slowest_unary_s=max(self._unary_s),
            slowest_first_token_s=max(self._first_s),
            longest_gap_s=max(self._gap_s),
        )
