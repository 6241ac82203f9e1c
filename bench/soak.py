"""Mixed load for a long time: does the gateway's memory stay flat?"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Sequence

from bench.answers import ask
from bench.figures import slope
from bench.gateways import HEADERS, Running, Spec
from bench.load import StreamClient, Window, connected
from bench.modes import Size, Target, ask_again, stream_again
from bench.processes import rss_bytes, tree
from bench.stage import Stage

_PACE_MS = 5.0
_SAMPLE_S = 0.5
_MIXED = Size(unary_tokens=16, full_tokens=200)
_UNARY, _STREAMS, _LEAVERS = 4, 32, 4
_MIB = 1024 * 1024

Sample = tuple[float, int]  # seconds since the start, bytes


async def soak(stage: Stage, ours: Spec, seconds: float) -> dict[str, float]:
    """Unary, streams and clients that leave, over two engines. Raises ProcessFailed."""
    engines = await stage.engines(2)
    gateway = await stage.gateway(ours, [engine.address for engine in engines])
    for engine in engines:
        await engine.set(pace_ms=_PACE_MS)
    target = Target([gateway.address], HEADERS, lambda: gateway.cpu_seconds)
    window = Window(time.monotonic(), math.inf)
    loads = [
        *(ask_again(target, number, _MIXED, window) for number in range(_UNARY)),
        *(stream_again(target, number, _MIXED, window) for number in range(_STREAMS)),
        *(_leave_again(target, number) for number in range(_LEAVERS)),
    ]
    tasks = [asyncio.ensure_future(load) for load in loads]
    samples = await _sampled(gateway, seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {**judged(samples), "answers": window.done, "events": window.events, "failed": window.failed}


async def _sampled(gateway: Running, seconds: float) -> list[Sample]:
    began, samples = time.monotonic(), []
    while (at := time.monotonic() - began) < seconds:
        assert gateway.child is not None
        samples.append((at, rss_bytes(tree(gateway.child.pid))))
        await asyncio.sleep(_SAMPLE_S)
    return samples


def judged(samples: Sequence[Sample]) -> dict[str, float]:
    """The first third is warm-up; growth is from the second third's median to the last's."""
    third = len(samples) // 3
    settled = samples[third:]
    middle = statistics.median(size for _, size in samples[third : 2 * third] or samples)
    last = statistics.median(size for _, size in samples[2 * third :])
    return {
        "seconds": samples[-1][0],
        "rss_mib": last / _MIB,
        "growth_mib": (last - middle) / _MIB,
        "slope_kib_per_min": slope(settled) * 60 / 1024,
    }


async def _leave_again(target: Target, number: int) -> None:
    """A client that hangs up in the middle, again and again."""
    asked = ask(500 + number, 400, stream=True, headers=target.headers)
    while True:
        client = await connected(target.address(number), StreamClient())
        result = client.start(asked)
        await asyncio.sleep(0.3)
        client.hang_up()
        result.cancel()
