"""The client's end of a stream: started when there is something to say, kept alive while there is not."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from server.errors import HeaderList
from server.http.errors import ClientGone
from server.http.exchange import Exchange
from server.wire.sse import PING

STREAM_HEADERS: HeaderList = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Tells nginx and its like not to collect the stream before passing it on.
    (b"x-accel-buffering", b"no"),
]


class Sink(Protocol):
    """Where a relay's frames go."""

    async def send(self, data: bytes) -> None: ...


class Discard:
    """The sink of a request whose answer is put together before it is sent."""

    async def send(self, data: bytes) -> None:
        """Nothing is sent before the end."""


class Outlet:
    """A server-sent event stream to one client. Within `async with`, a comment is sent when
    `heartbeat_s` seconds have passed since the last byte, so that no balancer takes it for dead.

    Data must be whole events, for a comment may be sent between any two writes.
    """

    def __init__(
        self,
        exchange: Exchange,
        headers: Iterable[tuple[bytes, bytes]],
        heartbeat_s: float,
    ) -> None:
        self._exchange = exchange
        self._headers = [*STREAM_HEADERS, *headers]
        self._heartbeat_s = heartbeat_s
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._due = self._loop.time() + self._heartbeat_s
        self._timer = self._loop.call_at(self._due, self._beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ping is not None:
            self._ping.cancel()

    async def send(self, data: bytes) -> None:
        """Raises ClientGone."""
        if not data:
            return
        self._writing = True
        try:
            if not self._exchange.started:
                await self._exchange.start(200, self._headers)
            await self._exchange.write(data)
        finally:
            self._writing = False
            self._due = self._loop.time() + self._heartbeat_s

    async def end(self) -> None:
        """Raises ClientGone."""
        await self._exchange.end()

    def _beat(self) -> None:
        late = self._loop.time() >= self._due
        if late and not self._writing and not self._exchange.closed:
            self._due = self._loop.time() + self._heartbeat_s
            self._ping = self._loop.create_task(self._send_ping())
        self._timer = self._loop.call_at(max(self._due, self._loop.time() + 0.001), self._beat)

    async def _send_ping(self) -> None:
        try:
            await self.send(PING)
        except ClientGone:
            # The server cancels the request's own task; there is nothing left to keep alive.
            return
