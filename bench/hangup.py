"""A client hangs up: how long does the engine go on working for nobody?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bench.answers import ask
from bench.errors import ProcessFailed
from bench.gateways import HEADERS, Spec
from bench.load import StreamClient, connected
from bench.stage import FakeEngine, Stage

_PACE_MS = 20.0
_TOKENS = 1000
_GIVE_UP_S = 5.0
_LOOK_S = 0.002
_TRIALS = 10


async def until_engine_stops(stage: Stage, spec: Spec) -> dict[str, float]:
    """Milliseconds from a client's hang-up until the engine sees its own connection end; the cap is 5 s.

    Half of the clients read a stream, half wait for a plain answer. Raises ProcessFailed, OSError.
    """
    engines = await stage.engines(2)
    gateway = await stage.gateway(spec, [engine.address for engine in engines])
    for engine in engines:
        await engine.set(pace_ms=_PACE_MS)
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(_TRIALS):
        for stream in (True, False):
            key = 100 + 2 * number + stream
            found[stream].append(await _trial(gateway.address, engines, key, stream=stream))
    return {"stream_max_ms": max(found[True]) * 1000, "unary_max_ms": max(found[False]) * 1000}


async def _trial(address: tuple[str, int], engines: Sequence[FakeEngine], key: int, *, stream: bool) -> float:
    client = await connected(address, StreamClient())
    result = client.start(ask(key, _TOKENS, stream=stream, headers=HEADERS))
    engine = await _worker(engines, key)
    left = client.hang_up()
    result.cancel()
    while time.monotonic() - left < _GIVE_UP_S:
        stopped = (await engine.state())["hung_up"].get(str(key))
        if stopped is not None:
            return max(0.0, float(stopped) - left)
        await asyncio.sleep(_LOOK_S)
    return _GIVE_UP_S


async def _worker(engines: Sequence[FakeEngine], key: int) -> FakeEngine:
    """The engine that works on it, some tokens later. Raises ProcessFailed when none does."""
    ends = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < ends:
        for engine in engines:
            if key in (await engine.state())["running"]:
                await asyncio.sleep(5 * _PACE_MS / 1000)
                return engine
        await asyncio.sleep(_LOOK_S)
    raise ProcessFailed(f"no engine got the request within {_GIVE_UP_S:.0f} s")
