"""The client's end of a stream: started when there is something to say, kept alive while there is not."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

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
    """Where a relay's frames go. `push` is `send` without waiting, for who has seen that it `keeps_up`."""

    @property
    def keeps_up(self) -> bool: ...
    def push(self, data: bytes) -> None: ...
    async def send(self, data: bytes) -> None: ...


class Discard:
    """The sink of a request whose answer is put together before it is sent."""

    keeps_up = True

    def push(self, data: bytes) -> None:
        """Nothing is sent before the end."""

    async def send(self, data: bytes) -> None:
        """Nothing is sent before the end."""


class Outlet:
    """A server-sent event stream to one client. Between `begin` and `close` a comment is sent when
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
        self._sending = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From here on the client hears something at least every `heartbeat_s` seconds."""
        self._due = self._loop.time() + self._heartbeat_s
        self._timer = self._loop.call_at(self._due, self._beat)

    def close(self) -> None:
        """It hears nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def keeps_up(self) -> bool:
        """Whether the stream has started and its client takes what it is sent."""
        exchange = self._exchange
        return exchange.head is not None and not self._sending and exchange.keeps_up

    def push(self, data: bytes) -> None:
        """Raises ClientGone."""
        self._exchange.push(data)
        self._due = self._loop.time() + self._heartbeat_s

    async def send(self, data: bytes) -> None:
        """Returns once the client keeps up. Raises ClientGone."""
        if not data:
            return
        self._sending = True
        try:
            if not self._exchange.started:
                await self._exchange.start(200, self._headers)
            await self._exchange.write(data)
        finally:
            self._sending = False
            self._due = self._loop.time() + self._heartbeat_s

    async def end(self) -> None:
        """Raises ClientGone."""
        await self._exchange.end()

    def _beat(self) -> None:
        now = self._loop.time()
        if now >= self._due:
            self._due = now + self._heartbeat_s
            self._ping()
        # A data event has moved only the time: the timer looks again when it fires.
        self._timer = self._loop.call_at(max(self._due, now + 0.001), self._beat)

    def _ping(self) -> None:
        if self._exchange.closed or self._sending:
            return
        try:
            if not self._exchange.started:
                self._exchange.begin(200, self._headers)
            if self._exchange.keeps_up:
                self._exchange.push(PING)
        except ClientGone:
            # The server cancels the request's own task; there is nothing left to keep alive.
            return
