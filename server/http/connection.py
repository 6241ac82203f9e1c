"""One client's connection: requests served in order, responses sent no faster than they are read."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from typing import cast

from server.http.deadline import Deadline
from server.http.errors import BodyTooLarge, ClientGone
from server.http.exchange import Exchange, Handler, Request
from server.http.framing import (
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    HANDLER_FAILED,
    TOO_MANY_CONNECTIONS,
    Refusal,
    ResponseHead,
    response_head,
)
from server.http.headers import RawHeaders
from server.http.parser import RequestHead, RequestParser

_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
# A client may send this much ahead of the response that it waits for; past it the connection ends with
# that response, and the client sends the rest again.
_MAX_AHEAD = 64 * 1024
# How long a closing connection waits for the client to take what was sent before it is cut. Without the
# wait, closing over unread input resets the connection and the refusal is lost on its way.
_LINGER_S = 5.0
# Connections over the cap that are answered at a time; others are cut.
_MAX_TOLD = 64
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Limits:
    """Bounds on what one connection may take, in seconds and bytes."""

    header_deadline_s: float
    body_deadline_s: float
    keep_alive_s: float
    stall_s: float
    max_header_bytes: int
    max_body_bytes: int
    max_connections: int


@dataclass
class Shared:
    """What the connections of one server have in common."""

    handler: Handler
    limits: Limits
    failed: Callable[[Exception], None]
    new_request_id: Callable[[], str]
    closing: bool = False
    connections: set[ServerConnection] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    _date: tuple[int, bytes] = (0, b"")

    def date(self) -> bytes:
        """The Date header (RFC 9110 6.6.1), made once a second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]


class ServerConnection(asyncio.Protocol):
    """Serves requests one after another, however many the client sends ahead."""

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        limits = shared.limits
        self._shared = shared
        self._limits = limits
        self._loop = loop
        self._parser = RequestParser(
            self, max_header_bytes=limits.max_header_bytes, max_body_bytes=limits.max_body_bytes
        )
        self._receiving = Deadline(loop, self._receive_expired)
        self._sending = Deadline(loop, self._send_expired)
        self._writable = asyncio.Event()
        self._writable.set()
        self.keeps_up = True
        self._unsent = 0
        self._peer = ""
        self._ahead = 0
        self._lost = False
        self._closing = False
        self._cancelled = False
        self._incoming: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._active: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: Refusal | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        connected = len(self._shared.connections)
        self._shared.connections.add(self)
        self._shared.emptied.clear()
        if connected >= self._limits.max_connections:
            self._turn_away(connected)
            return
        self._receiving.set(self._limits.header_deadline_s)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True
        self.keeps_up = False
        self._receiving.close()
        self._sending.close()
        self._writable.set()
        self._client_left()
        self._shared.connections.discard(self)
        if not self._shared.connections:
            self._shared.emptied.set()

    def data_received(self, data: bytes) -> None:
        if self._active is not None and self._active.request.complete:
            self._ahead += len(data)
        self._parser.feed(data)
        if self._ahead > _MAX_AHEAD and not self._parser.stopped:
            self._stop_listening()

    def eof_received(self) -> bool | None:
        if self._active is not None and not self._active.closed:
            self._client_left()
            self._transport.abort()
        return None

    def pause_writing(self) -> None:
        self.keeps_up = False
        self._writable.clear()
        self._watch_sending(self._limits.stall_s)

    def resume_writing(self) -> None:
        self.keeps_up = not self._lost
        self._writable.set()
        if not self._closing:
            self._sending.clear()

    # Events of the parser

    def head_begun(self) -> None:
        self._receiving.set(self._limits.header_deadline_s)

    def head_arrived(self, head: RequestHead) -> None:
        request = Request(self, head.method, head.path, head.query, head.headers, self._peer)
        self._incoming = Exchange(self, request, head.version, keep_alive=head.keep_alive)
        self._receiving.set(self._limits.body_deadline_s)
        self._waiting.append(self._incoming)
        self._advance()

    def body_arrived(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.request.feed(data)

    def request_ended(self) -> None:
        self._receiving.clear()
        if self._incoming is not None:
            self._incoming.request.finish()
            self._incoming = None

    def refused(self, refusal: Refusal) -> None:
        """Answer what came before, then `refusal`, then close."""
        self._parser.stopped = True
        self._receiving.clear()
        self._refusal = refusal
        broken, self._incoming = self._incoming, None
        if broken is not None and broken is self._active:
            if not broken.started:
                broken.refusal = refusal
            self._cancel()
            return
        if broken is not None:
            self._waiting.remove(broken)
        self._advance()

    # Wire, for the exchange

    def frame(self, exchange: Exchange, status: int, pairs: RawHeaders) -> ResponseHead:
        return response_head(
            status,
            pairs,
            method=exchange.request.method,
            version=exchange.version,
            keep_alive=exchange.keep_alive
            # What is still to come of the body is not waited for: see `_served`.
            and exchange.request.complete
            and not self._parser.stopped
            and not self._shared.closing,
            date=self._shared.date(),
        )

    def send(self, data: bytes) -> None:
        if self._lost:
            raise ClientGone("the client left")
        self._transport.write(data)

    async def drained(self) -> None:
        if not self._writable.is_set():
            await self._writable.wait()
        if self._lost:
            raise ClientGone("the client left")

    def continue_(self) -> None:
        if not self._lost:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def cut(self, exchange: Exchange) -> None:
        self._parser.stopped = self._closing = True
        self._waiting.clear()
        head = exchange.head
        if head is not None and head.has_body and not head.chunked and head.content_length is None:
            # Here the close itself is the end of the body: only a reset tells the client otherwise.
            self._reset()
            return
        self._transport.close()
        self._watch_sending(_LINGER_S)

    # Serving

    def close_if_idle(self) -> None:
        """Close a connection that no request is under way on."""
        if self._active is None and not self._parser.begun:
            self._transport.close()

    def abort(self) -> asyncio.Task[None] | None:
        """Cut the connection now and cancel what is being served; returns its task."""
        task = self._task
        self._client_left()
        self._transport.abort()
        return task

    def _advance(self) -> None:
        if self._active is not None:
            return
        if self._waiting:
            self._active = self._waiting.popleft()
            self._ahead = 0
            self._cancelled = False
            self._task = self._loop.create_task(self._serve(self._active))
            # Not in a finally of the task: a task that is cancelled before its first step runs none.
            self._task.add_done_callback(partial(self._served, self._active))
        elif self._refusal is not None:
            self._answer(self._refusal)
        elif self._parser.stopped:
            self._close()
        elif not self._parser.begun:
            self._receiving.set(self._limits.keep_alive_s)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._shared.handler(exchange)
            if not exchange.closed:
                raise RuntimeError("the handler returned without ending its response")
        except BodyTooLarge:
            self._refusal = BODY_TOO_LARGE
        except ClientGone:
            exchange.closed = exchange.closed or self._lost
        except Exception as exc:  # noqa: BLE001  one request's bug must not end the others
            self._shared.failed(exc)

    def _served(self, exchange: Exchange, _: asyncio.Task[None]) -> None:
        self._active = self._task = None
        if self._lost or self._transport.is_closing():
            return
        if not exchange.closed and exchange.started:
            exchange.abort()
        elif not exchange.closed:
            self._answer(self._refusal or HANDLER_FAILED)
        elif exchange.head is None or not exchange.head.keep_alive or not exchange.request.complete:
            self._close(linger=self._parser.stopped or self._ahead > 0 or not exchange.request.complete)
        else:
            self._advance()

    def _answer(self, refusal: Refusal) -> None:
        body = refusal.body()
        pairs = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self._shared.new_request_id().encode()),
        ]
        head = response_head(
            refusal.status, pairs, method="GET", version="1.1", keep_alive=False, date=self._shared.date()
        )
        self._transport.write(head.wire + body)
        self._close()

    def _turn_away(self, connected: int) -> None:
        """A few are told why; in a flood of them the telling would itself hold connections."""
        self._parser.stopped = True
        if connected >= self._limits.max_connections + _MAX_TOLD:
            self._transport.abort()
        else:
            self._answer(TOO_MANY_CONNECTIONS)

    def _close(self, *, linger: bool = True) -> None:
        """Close once the client has what was sent; with `linger`, input that still comes is dropped first."""
        if self._transport.is_closing():
            return
        self._parser.stopped = self._closing = True
        self._waiting.clear()
        self._receiving.clear()
        if linger:
            try:
                self._transport.write_eof()
            except OSError:
                # The client has reset the connection, and the loop has yet to tell us.
                self._transport.abort()
        else:
            self._transport.close()
        self._watch_sending(_LINGER_S)

    def _client_left(self) -> None:
        self._parser.stopped = True
        self._waiting.clear()
        if self._incoming is not None:
            self._incoming.request.cut()
        self._cancel()

    def _cancel(self) -> None:
        """Cancel what is served, once: a second cancel would break into the handler's own cleaning up."""
        if self._task is None or self._active is None or self._active.closed or self._cancelled:
            return
        self._cancelled = True
        self._task.cancel()

    # Deadlines

    def _stop_listening(self) -> None:
        """Serve what is whole, then close."""
        self._parser.stopped = True
        self._receiving.clear()
        if self._incoming is not None and self._incoming in self._waiting:
            self._waiting.remove(self._incoming)
            self._incoming = None
        self._advance()

    def _receive_expired(self) -> None:
        if self._parser.in_body:
            self.refused(BODY_TOO_SLOW)
        else:
            self._stop_listening()

    def _watch_sending(self, seconds: float) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._sending.set(seconds)

    def _send_expired(self) -> None:
        """A client that took some of what waits for it is slow; one that took nothing is stuck."""
        unsent = self._transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:
            self._watch_sending(_LINGER_S if self._closing else self._limits.stall_s)
            return
        self.abort()

    def _reset(self) -> None:
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
