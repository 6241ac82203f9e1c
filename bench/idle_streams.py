"""Very many streams that say little: what does each cost in memory?"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter

from bench.answers import StreamResult, ask
from bench.gateways import HEADERS, Spec
from bench.load import Address, StreamClient, connected
from bench.processes import rss_bytes, tree
from bench.stage import Stage

_FIRST_MS, _PACE_MS = 20.0, 1000.0
_STARTS_PER_S = 300
_TOGETHER_S = 10
_WARM = 200
_OTHER_FILES = 400
_PATIENCE_S = 60.0


async def idle_streams(stage: Stage, ours: Spec, streams: int) -> dict[str, float]:
    """Streams of a token a second that all run at once for ten seconds, each read to its end.

    Fewer where the system's limit of open files is lower. KiB a stream is the gateway's growth from before
    the first to when all run. Raises ProcessFailed.
    """
    streams = _fitting(streams)
    engines = await stage.engines(2)
    gateway = await stage.gateway(ours, [engine.address for engine in engines])
    assert gateway.child is not None
    pid = gateway.child.pid
    for engine in engines:
        await engine.set(first_ms=_FIRST_MS, pace_ms=_FIRST_MS)
    await asyncio.gather(*(_read(gateway.address, number, 5) for number in range(_WARM)))
    for engine in engines:
        await engine.set(pace_ms=_PACE_MS)
    before, used = rss_bytes(tree(pid)), gateway.cpu_seconds
    ramp_s = streams / _STARTS_PER_S
    tokens = int(ramp_s) + _TOGETHER_S
    reading = [
        asyncio.ensure_future(_read(gateway.address, number, tokens, number / _STARTS_PER_S))
        for number in range(streams)
    ]
    await asyncio.sleep(ramp_s + _TOGETHER_S / 2)
    grown = rss_bytes(tree(pid)) - before
    verdicts = Counter(stream.verdict if stream else "failed" for stream in await asyncio.gather(*reading))
    return {
        "streams": streams,
        "tokens": tokens * streams,
        "kib_per_stream": grown / streams / 1024,
        "cpu_us_per_token": (gateway.cpu_seconds - used) / (tokens * streams) * 1e6,
        "lost": streams - verdicts["ok"],
    }


async def _read(address: Address, number: int, tokens: int, after_s: float = 0.0) -> StreamResult | None:
    await asyncio.sleep(after_s)
    try:
        client = await connected(address, StreamClient())
    except (OSError, TimeoutError):
        return None
    result = client.start(ask(number % 1000, tokens, stream=True, headers=HEADERS))
    late = asyncio.get_running_loop().call_later(tokens * _PACE_MS / 1000 + _PATIENCE_S, client.late)
    stream = await result
    late.cancel()
    client.hang_up()
    return stream


def _fitting(streams: int) -> int:
    """As many as one process may have open, two connections each. Children inherit what is raised here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * streams + _OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(streams, (most - _OTHER_FILES) // 2)
