"""The three throughput measurements, each of one gateway at a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.answers import Asked, StreamResult, ask
from bench.figures import quantile
from bench.load import Address, StreamClient, UnaryClient, Window, connected

Mode = Literal["unary", "paced", "full"]
Figures = dict[str, float]

_LATE_S = 10.0
_WARM_SHARE = 0.2
_RETRY_S = 0.05


@dataclass(frozen=True)
class Target:
    """Where clients connect, in turns, and the CPU time that the gateway has used, in seconds."""

    addresses: Sequence[Address]
    headers: dict[str, str]
    cpu_seconds: Callable[[], float]

    def address(self, number: int) -> Address:
        return self.addresses[number % len(self.addresses)]


@dataclass(frozen=True)
class Size:
    """How much of each: clients, tokens per answer, pace and duration in seconds."""

    unary_clients: int = 64
    unary_tokens: int = 16
    unary_s: float = 3.0
    streams: int = 256
    stream_tokens: int = 128
    pace_s: float = 0.020
    rounds: int = 2
    full_streams: int = 64
    full_tokens: int = 2048
    full_s: float = 3.0


async def unary(target: Target, size: Size) -> Figures:
    """Clients that ask again as soon as they are answered."""
    window = _closed_window()
    loops = [ask_again(target, number, size, window) for number in range(size.unary_clients)]
    cpu_s = await _measure(loops, window, target.cpu_seconds, size.unary_s)
    seconds = sorted(window.seconds)
    return {
        "per_s": window.done / window.length_s,
        "cpu_us": _per(cpu_s, window.done),
        "busy": cpu_s / window.length_s,
        "p50_ms": quantile(seconds, 0.50) * 1000,
        "p99_ms": quantile(seconds, 0.99) * 1000,
        "failed": window.failed,
        "wrong": window.wrong,
    }


async def full(target: Target, size: Size) -> Figures:
    """Streams as fast as the gateway takes them; their text is checked in the warm-up."""
    verdicts: Counter[str] = Counter()
    checked = [_stream_once(target, number, size.full_tokens, size) for number in range(4)]
    verdicts.update(result.verdict if result else "failed" for result in await asyncio.gather(*checked))
    window = _closed_window()
    loops = [stream_again(target, number, size, window) for number in range(size.full_streams)]
    cpu_s = await _measure(loops, window, target.cpu_seconds, size.full_s)
    return {
        "tokens_per_s": window.events / window.length_s,
        "cpu_us_per_token": _per(cpu_s, window.events),
        "busy": cpu_s / window.length_s,
        "failed": window.failed + verdicts["failed"],
        "truncated": verdicts["truncated"],
        "wrong": verdicts["wrong"],
    }


async def paced(target: Target, size: Size) -> Figures:
    """Streams at the pace of a real engine, begun one by one so that they do not beat in step."""
    clients = [StreamClient() for _ in range(size.streams)]
    await asyncio.gather(*(_try_connect(target.address(n), client) for n, client in enumerate(clients)))
    lasting = size.stream_tokens * size.pace_s
    cpu_s, began = target.cpu_seconds(), time.monotonic()
    results = await asyncio.gather(
        *(
            _stream_rounds(target, number, client, size, delay_s=lasting * number / size.streams)
            for number, client in enumerate(clients)
        )
    )
    wall_s = time.monotonic() - began
    cpu_s = target.cpu_seconds() - cpu_s
    for client in clients:
        client.hang_up()
    return _paced_figures([result for some in results for result in some], cpu_s, wall_s)


MODES: dict[Mode, Callable[[Target, Size], Awaitable[Figures]]] = {
    "unary": unary,
    "paced": paced,
    "full": full,
}


def _paced_figures(results: Sequence[StreamResult | None], cpu_s: float, wall_s: float) -> Figures:
    verdicts = Counter(result.verdict if result else "failed" for result in results)
    streams = [result for result in results if result is not None]
    tokens = sum(stream.tokens for stream in streams)
    firsts = sorted(stream.first_s for stream in streams if stream.first_s is not None)
    gaps = sorted(gap for stream in streams for gap in stream.gaps_s)
    return {
        "cpu_us_per_token": _per(cpu_s, tokens),
        "tokens_per_s": tokens / wall_s,
        "busy": cpu_s / wall_s,
        "ttft_p50_ms": quantile(firsts, 0.50) * 1000,
        "ttft_p99_ms": quantile(firsts, 0.99) * 1000,
        "gap_p50_ms": quantile(gaps, 0.50) * 1000,
        "gap_p99_ms": quantile(gaps, 0.99) * 1000,
        "ok": verdicts["ok"],
        "failed": verdicts["failed"],
        "truncated": verdicts["truncated"],
        "wrong": verdicts["wrong"],
    }


async def _measure(
    loops: Sequence[Awaitable[None]], window: Window, cpu_seconds: Callable[[], float], lasting_s: float
) -> float:
    """CPU seconds of the gateway while the window was open."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    await asyncio.sleep(lasting_s * _WARM_SHARE)
    before = cpu_seconds()
    window.opens = time.monotonic()
    await asyncio.sleep(lasting_s)
    window.closes = time.monotonic()
    used = cpu_seconds() - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used


async def ask_again(target: Target, number: int, size: Size, window: Window) -> None:
    asked = ask(number, size.unary_tokens, stream=False, headers=target.headers)
    loop = asyncio.get_running_loop()
    while True:
        ended = loop.create_future()
        client = UnaryClient(asked, window, ended)
        try:
            await loop.create_connection(
                lambda client=client: client,  # type: ignore[misc]
                *target.address(number),
            )
            await ended
        except OSError:
            window.failed += 1
            await asyncio.sleep(_RETRY_S)
        finally:
            client.hang_up()


async def stream_again(target: Target, number: int, size: Size, window: Window) -> None:
    asked = ask(number, size.full_tokens, stream=True, headers=target.headers)
    while True:
        client = StreamClient(window)
        if not await _try_connect(target.address(number), client):
            window.failed += 1
            await asyncio.sleep(_RETRY_S)
        try:
            while client.open:
                result = await client.start(asked)
                window.failed += result.ended != "clean"
        finally:
            client.hang_up()


async def _stream_once(target: Target, number: int, tokens: int, size: Size) -> StreamResult | None:
    client = StreamClient()
    asked = ask(number, tokens, stream=True, headers=target.headers)
    try:
        return await _stream(target, number, client, asked, _LATE_S + size.full_s)
    finally:
        client.hang_up()


async def _stream_rounds(
    target: Target, number: int, client: StreamClient, size: Size, *, delay_s: float
) -> list[StreamResult | None]:
    await asyncio.sleep(delay_s)
    lasting = size.stream_tokens * size.pace_s + _LATE_S
    asked = ask(number, size.stream_tokens, stream=True, headers=target.headers)
    return [await _stream(target, number, client, asked, lasting) for _ in range(size.rounds)]


async def _stream(
    target: Target, number: int, client: StreamClient, asked: Asked, within_s: float
) -> StreamResult | None:
    """None when there is no connection."""
    if not client.open and not await _try_connect(target.address(number), client):
        return None
    result = client.start(asked)
    late = asyncio.get_running_loop().call_later(within_s, client.late)
    try:
        return await result
    finally:
        late.cancel()


async def _try_connect(address: Address, client: StreamClient) -> bool:
    try:
        await connected(address, client)
    except (OSError, TimeoutError):
        return False
    return True


def _closed_window() -> Window:
    """Opened and closed when the gateway's CPU time is read."""
    return Window(math.inf, math.inf)


def _per(cpu_s: float, count: int) -> float:
    """Microseconds; 0 where nothing came, or where no gateway was."""
    return cpu_s / count * 1e6 if count else 0.0
