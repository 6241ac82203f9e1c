"""The clients: bytes on sockets, nothing parsed while it is measured."""

from __future__ import annotations

import asyncio
import time
from array import array
from dataclasses import dataclass, field
from typing import Literal, cast

from bench.answers import Asked, StreamResult, closes, events_in, status_of, whole_length

Address = tuple[str, int]

_CONNECT_S = 5.0


@dataclass
class Window:
    """What came between two moments, in monotonic seconds. `seconds` are latencies."""

    opens: float
    closes: float
    done: int = 0
    failed: int = 0
    wrong: int = 0
    events: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    @property
    def length_s(self) -> float:
        return self.closes - self.opens

    def holds(self, now: float) -> bool:
        return self.opens <= now < self.closes


class UnaryClient(asyncio.Protocol):
    """Asks again as soon as it is answered, until the window closes or the connection is lost."""

    def __init__(self, asked: Asked, window: Window, ended: asyncio.Future[None]) -> None:
        self._asked = asked
        self._expected = asked.expected.encode()
        self._window = window
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        answer = self._rest + data if self._rest else data
        if whole_length(answer) is None:
            self._rest = answer
            return
        self._rest = b""
        now = time.monotonic()
        if self._window.holds(now):
            self._count(answer, now)
        if now >= self._window.closes or closes(answer):
            self._end()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self._ended.done():
            self._window.failed += 1
            self._ended.set_result(None)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _ask(self) -> None:
        assert self._transport is not None
        self._sent = time.monotonic()
        self._transport.write(self._asked.raw)

    def _count(self, answer: bytes, now: float) -> None:
        window = self._window
        if status_of(answer) != 200:
            window.failed += 1
        elif self._expected not in answer:
            window.wrong += 1
        else:
            window.done += 1
            window.seconds.append(now - self._sent)

    def _end(self) -> None:
        assert self._transport is not None
        if not self._ended.done():
            self._ended.set_result(None)
        self._transport.close()


class StreamClient(asyncio.Protocol):
    """One stream after another on one connection. With a window it counts events there and keeps no bytes."""

    def __init__(self, window: Window | None = None) -> None:
        self._window = window
        self._transport: asyncio.Transport | None = None
        self._asked: Asked | None = None
        self._result: asyncio.Future[StreamResult] | None = None
        self._began = 0.0
        self._reads: array[float] = array("d")
        self._pieces: list[bytes] = []
        self._tail = b""

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._finish("cut")

    def start(self, asked: Asked) -> asyncio.Future[StreamResult]:
        assert self._transport is not None
        self._asked, self._tail, self._pieces = asked, b"", []
        self._reads = array("d")
        self._result = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._transport.write(asked.raw)
        return self._result

    def data_received(self, data: bytes) -> None:
        window = self._window
        if window is not None:
            if window.holds(time.monotonic()):
                window.events += events_in(data)
        else:
            self._pieces.append(data)
            if self._reads or b"data:" in data:
                self._reads.append(time.monotonic())
        self._tail = (self._tail + data)[-5:] if len(data) < 5 else data[-5:]
        if self._tail == b"0\r\n\r\n" or self._is_plain(data):
            self._finish("clean")

    def hang_up(self) -> float:
        """When, in monotonic seconds."""
        if self._transport is not None:
            self._transport.abort()
        return time.monotonic()

    def late(self) -> None:
        """Its time is up: whatever it got, it is."""
        self._finish("late")
        self.hang_up()

    def _is_plain(self, data: bytes) -> bool:
        """An error comes with its length, not in chunks."""
        if len(self._pieces) != 1 or status_of(data) == 200:
            return False
        return whole_length(data) is not None

    def _finish(self, ended: Literal["clean", "cut", "late"]) -> None:
        result, self._result = self._result, None
        if result is None or result.done() or self._asked is None:
            return
        body = b"".join(self._pieces)
        result.set_result(StreamResult(self._asked, self._began, self._reads, body, ended))


async def connected(address: Address, client: StreamClient) -> StreamClient:
    """Raises OSError, TimeoutError."""
    async with asyncio.timeout(_CONNECT_S):
        await asyncio.get_running_loop().create_connection(lambda: client, *address)
    return client
