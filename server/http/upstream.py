"""One connection to an upstream: a request out, a response in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import httptools

from server.http.deadline import Deadline
from server.http.errors import BodyCut, ResponseLost, UpstreamError, UpstreamTimeout
from server.http.framing import BODYLESS_STATUSES
from server.http.headers import Headers

# Past this much unread body the upstream is not read any further: its own send buffer, and so its
# handler, then feel our slow reader.
_HIGH_WATER = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024
# An instance that vanishes sends no reset, and a plain answer may rightly take minutes: its system, which
# answers for it however busy it is, is asked after 5 s of silence, and is gone after 10 s without a word.
_LIFE_SIGNS = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 10_000),
    )
    if hasattr(socket, name)
]


_NO_HEADERS = Headers()

Push = Callable[[bytes], bytes]


class UpstreamConnection(asyncio.Protocol):
    """Sends one request at a time; the pool releases it in between.

    `lost` tells the pool that the connection is gone. While `take` waits, `push` is given the body as it
    arrives, in the reader's place and without waking it, and returns what it leaves for the reader.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[UpstreamConnection], None]) -> None:
        self._loop = loop
        self._on_lost = lost
        self._silence = Deadline(loop, self._silent)
        self._gone = False
        self._reading = True
        # What one read held of the body. The parser appends to it without a call into Python.
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self.heard_at = loop.time()
        self.longest_gap = 0.0
        self._reset()

    def _reset(self) -> None:
        self._method = ""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._pieces.clear()
        self._buffered: list[bytes] = []
        self._buffered_bytes = 0
        self._until_close = False
        self._failure: UpstreamError | None = None
        self._changed: asyncio.Future[None] | None = None
        self.status = 0
        self.headers = _NO_HEADERS
        self.heard = False
        self.complete = False
        self._quiet_s = 0.0
        self.push: Push | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock: socket.socket = transport.get_extra_info("socket")
        for level, name, value in _LIFE_SIGNS:
            sock.setsockopt(level, name, value)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._silence.close()
        if self._until_close and exc is None and self._failure is None:
            self.complete = True
        self._fail("the upstream closed the connection", exc)
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if not self._method or self._failure is not None:
            # Nothing was asked: whatever this is, the next response must not be read from behind it.
            self.close()
            return
        self.heard = True
        now = self._loop.time()
        gap = now - self.heard_at
        if gap > self.longest_gap:
            self.longest_gap = gap
        self.heard_at = now
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._collect()
            self._fail("the upstream's answer is not valid HTTP", exc)
            self.close()
        if self._pieces:
            self._collect()
        if not self.status and self._head_bytes > _MAX_HEAD_BYTES:
            self._fail("the upstream's response head is too large", None)
            self.close()

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self._keep_open = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self.complete:
            self._pairs = []
            return
        self.headers = Headers(self._pairs)
        self.status = status
        self._keep_open = self._parser.should_keep_alive()
        bodyless = self._method == "HEAD" or status in BODYLESS_STATUSES
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        self._until_close = not framed and not bodyless
        if bodyless:
            # The parser cannot know that HEAD has no body, so this connection is not used again.
            self._keep_open = False
            self.complete = True
        self._head_arrived()

    def on_message_complete(self) -> None:
        if self.status and not self._until_close:
            self._collect()
            self.complete = True
            self._silence.clear()
            self._wake()

    # For the pool and for who watches over a request
    #
    # `heard_at` is the loop's time of the last byte, or of the request where there is none yet;
    # `longest_gap` the longest wait for one, in seconds, since the request or since it was set to 0.

    @property
    def held_back(self) -> bool:
        """Whether it is we who have something to read, or do not: that silence is not the upstream's."""
        return self.complete or bool(self._buffered) or not self._reading

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return not self._gone and not self._transport.is_closing() and self._failure is None

    @property
    def reusable(self) -> bool:
        """Whether its response is over and the upstream keeps the connection open."""
        return self.usable and self.complete and self._keep_open and not self._buffered

    def send(self, method: str, wire: bytes) -> None:
        self._method = method
        self._keep_open = False
        self.heard_at = self._loop.time()
        self.longest_gap = 0.0
        self._transport.write(wire)

    def release(self) -> None:
        """Between two requests nothing is expected."""
        self._reset()
        self._silence.clear()
        self._resume()

    def close(self) -> None:
        """Cut it now; who waits for its response hears of it from connection_lost."""
        if not self._gone:
            self._gone = True
            self._transport.abort()
            self._on_lost(self)

    def give_up(self, error: UpstreamError) -> None:
        """Cut it now; who waits for its response gets `error`."""
        if self._failure is None and not self.complete:
            self._failure = error
            self._wake()
            self.close()

    async def head(self, timeout_s: float | None) -> None:
        """Wait until `status` and `headers` are here. Raises ResponseLost or UpstreamTimeout."""
        if timeout_s is not None:
            self._silence.set(timeout_s)
        while not self.status:
            if self._failure is not None:
                raise self._failure
            self._changed = self._loop.create_future()
            await self._changed

    async def take(self, chunk_timeout_s: float | None) -> bytes:
        """What has arrived of the body since the last call, b"" at its end.

        Raises BodyCut, or UpstreamTimeout after `chunk_timeout_s` without a byte.
        """
        while not self._buffered:
            if self.complete:
                return b""
            if self._failure is not None:
                raise self._failure
            if chunk_timeout_s is not None:
                self._quiet_s = chunk_timeout_s
                self._silence.set(chunk_timeout_s)
            self._changed = self._loop.create_future()
            await self._changed
        data = self._buffered[0] if len(self._buffered) == 1 else b"".join(self._buffered)
        self._buffered.clear()
        self._buffered_bytes = 0
        self._resume()
        return data

    # Inside

    def _collect(self) -> None:
        """Take in what the parser found of the body; what comes after the body's end is nobody's."""
        if self.complete or not self._pieces:
            self._pieces.clear()
            return
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        waiting = self._changed is not None and not self._changed.done()
        if self.push is not None and waiting and not self._buffered:
            data = self.push(data)
            if not data:
                return
        self._buffered.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes > _HIGH_WATER and self._reading:
            self._reading = False
            self._transport.pause_reading()
        self._silence.clear()
        self._wake()

    def _head_arrived(self) -> None:
        self._silence.clear()
        self._wake()

    def _resume(self) -> None:
        if not self._reading and not self._gone:
            self._reading = True
            self.heard_at = self._loop.time()
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _silent(self) -> None:
        # What was pushed has not moved the deadline.
        left_s = self.heard_at + self._quiet_s - self._loop.time()
        if self.status and left_s > 0:
            self._silence.set(left_s)
            return
        stage = "inside its body" if self.status else "before its response"
        self.give_up(UpstreamTimeout(f"the upstream fell silent {stage}"))

    def _fail(self, what: str, cause: Exception | None) -> None:
        if self._failure is None and not self.complete:
            error = (
                BodyCut(f"{what} inside the body")
                if self.status
                else ResponseLost(f"{what} before its response")
            )
            error.__cause__ = cause
            self._failure = error
        self._wake()
