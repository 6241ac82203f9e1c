"""One client's connection: bytes to requests, responses to bytes, in order."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import cast

import httptools

from server.http.deadline import Deadline
from server.http.errors import BodyTooLarge, ClientGone
from server.http.exchange import Exchange, Handler, Request
from server.http.framing import (
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    HANDLER_FAILED,
    HEADERS_TOO_LARGE,
    Refusal,
    ResponseHead,
    bad_request,
    refuse_head,
    response_head,
)
from server.http.headers import Headers, RawHeaders

_HIGH_WATER = 64 * 1024
_LOW_WATER = 16 * 1024
# A client may send this much ahead of the response that it waits for; past it the connection ends with
# that response, and the client sends the rest again elsewhere.
_MAX_AHEAD = 64 * 1024
# How long a closing connection waits for the client to take what was sent before it is cut. Without the
# wait, closing over unread input resets the connection and the refusal is lost on its way.
_LINGER_S = 5.0
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


@dataclass
class Shared:
    """What the connections of one server have in common."""

    handler: Handler
    limits: Limits
    failed: Callable[[Exception], None]
    closing: bool = False
    connections: set[ServerConnection] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)


class ServerConnection(asyncio.Protocol):
    """Parses requests and serves them one after another, however many the client sends ahead."""

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        self._shared = shared
        self._limits = shared.limits
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._receiving = Deadline(loop, self._receive_expired)
        self._sending = Deadline(loop, self._send_expired)
        self._writable = asyncio.Event()
        self._writable.set()
        self._unsent = 0
        self._peer = ""
        self._waiting: deque[Exchange] = deque()
        self._active: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: Refusal | None = None
        self._deaf = False  # nothing more is parsed: what comes is dropped
        self._lost = False
        self._begun = False
        self._in_head = True
        self._head_bytes = 0
        self._wire_bytes = 0
        self._ahead = 0
        self._url = b""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._incoming: Exchange | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._shared.connections.add(self)
        self._shared.emptied.clear()
        self._receiving.set(self._limits.header_deadline_s)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True
        self._receiving.close()
        self._sending.close()
        self._writable.set()
        self._client_left()
        self._shared.connections.discard(self)
        if not self._shared.connections:
            self._shared.emptied.set()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._wire_bytes += len(data)
        if self._active is not None and self._active.request.complete:
            self._ahead += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We speak no other protocol: the request is served as plain HTTP, and is the last one.
            self._deaf = True
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as exc:
            self._refuse(bad_request(f"malformed request: {exc}"))
        self._check_bounds()

    def eof_received(self) -> bool | None:
        if self._active is not None and not self._active.closed:
            self._client_left()
            self._transport.abort()
        return None

    def pause_writing(self) -> None:
        self._writable.clear()
        self._watch_sending(self._limits.stall_s)

    def resume_writing(self) -> None:
        self._writable.set()
        self._sending.clear()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._begun = True
        self._url = b""
        self._pairs = []
        self._head_bytes = 0
        self._receiving.set(self._limits.header_deadline_s)

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._refuse(bad_request("trailers are not accepted; send the fields as headers"))
            return
        self._pairs.append((name, value))
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        self._in_head = False
        self._wire_bytes = 0
        headers, version = Headers(self._pairs), self._parser.get_http_version()
        refusal = refuse_head(version, headers) or self._refuse_length(headers)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._accept(version, headers)

    def on_body(self, body: bytes) -> None:
        if self._deaf or self._incoming is None:
            return
        request = self._incoming.request
        if request.received + len(body) > self._limits.max_body_bytes:
            self._refuse(BODY_TOO_LARGE)
            return
        request.feed(body)

    def on_message_complete(self) -> None:
        if self._deaf or self._incoming is None:
            return
        self._begun = False
        self._in_head = True
        self._wire_bytes = 0
        self._receiving.clear()
        self._incoming.request.finish()
        self._incoming = None

    # Wire, for the exchange

    def frame(self, exchange: Exchange, status: int, pairs: RawHeaders) -> ResponseHead:
        return response_head(
            status,
            pairs,
            method=exchange.request.method,
            version=exchange.version,
            keep_alive=exchange.keep_alive and not self._deaf and not self._shared.closing,
            date=formatdate(time.time(), usegmt=True).encode(),
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
        self._deaf = True
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
        if self._active is None and not self._begun and not self._deaf:
            self._close()

    def abort(self) -> asyncio.Task[None] | None:
        """Cut the connection now and cancel what is being served; returns its task."""
        task = self._task
        self._client_left()
        self._transport.abort()
        return task

    def _accept(self, version: str, headers: Headers) -> None:
        path, query = _split(self._url)
        method = self._parser.get_method().decode("ascii")
        request = Request(self, method, path, query, headers, self._peer)
        exchange = Exchange(self, request, version, keep_alive=self._parser.should_keep_alive())
        self._incoming = exchange
        self._receiving.set(self._limits.body_deadline_s)
        self._waiting.append(exchange)
        self._advance()

    def _advance(self) -> None:
        if self._active is not None:
            return
        if self._waiting:
            self._active = self._waiting.popleft()
            self._ahead = 0
            self._task = self._loop.create_task(self._serve(self._active))
        elif self._refusal is not None:
            self._answer(self._refusal)
        elif self._deaf:
            self._close()
        elif not self._begun:
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
        finally:
            self._served(exchange)

    def _served(self, exchange: Exchange) -> None:
        self._active = self._task = None
        if self._lost or self._transport.is_closing():
            return
        if not exchange.closed and exchange.started:
            exchange.abort()
        elif not exchange.closed:
            self._answer(self._refusal or HANDLER_FAILED)
        elif exchange.head is None or not exchange.head.keep_alive or not exchange.request.complete:
            self._close()
        else:
            self._advance()

    def _refuse(self, refusal: Refusal) -> None:
        """Stop listening; answer what came before, then `refusal`, then close."""
        if self._deaf:
            return
        self._deaf = True
        self._receiving.clear()
        self._refusal = refusal
        broken, self._incoming = self._incoming, None
        if broken is not None and broken is self._active:
            self._cancel()
            return
        if broken is not None:
            self._waiting.remove(broken)
        self._advance()

    def _answer(self, refusal: Refusal) -> None:
        self._deaf = True
        body = refusal.body()
        head = response_head(
            refusal.status,
            [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
            method="GET",
            version="1.1",
            keep_alive=False,
            date=formatdate(time.time(), usegmt=True).encode(),
        )
        self._transport.write(head.wire + body)
        self._close()

    def _close(self) -> None:
        """Close once the client has what was sent; input that still comes is dropped meanwhile."""
        if self._transport.is_closing():
            return
        self._deaf = True
        self._waiting.clear()
        self._receiving.clear()
        self._transport.write_eof()
        self._watch_sending(_LINGER_S)

    def _client_left(self) -> None:
        self._deaf = True
        self._waiting.clear()
        if self._incoming is not None:
            self._incoming.request.cut()
        self._cancel()

    def _cancel(self) -> None:
        """Cancel what is served, once: a second cancel would break into the handler's own cleaning up."""
        if self._active is not None and not self._active.closed and self._task is not None:
            self._task.cancel()
            self._task = None

    # Bounds

    def _refuse_length(self, headers: Headers) -> Refusal | None:
        length = headers.get("content-length")
        return BODY_TOO_LARGE if length and int(length) > self._limits.max_body_bytes else None

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_header_bytes:
            self._refuse(HEADERS_TOO_LARGE)

    def _check_bounds(self) -> None:
        """Bound what the parser itself holds: unfinished header lines, chunk extensions, requests ahead."""
        if self._deaf:
            return
        if self._in_head and self._wire_bytes > self._limits.max_header_bytes:
            self._refuse(HEADERS_TOO_LARGE)
        elif self._incoming is not None and self._overhead() > self._limits.max_header_bytes:
            self._refuse(bad_request("the body's chunks are mostly padding; send larger chunks"))
        elif self._ahead > _MAX_AHEAD:
            self._stop_listening()

    def _overhead(self) -> int:
        # The smallest chunk spends 6 bytes on one of body.
        return self._wire_bytes - 8 * self._incoming.request.received if self._incoming else 0

    def _stop_listening(self) -> None:
        self._deaf = True
        self._receiving.clear()
        if self._incoming is not None and self._incoming in self._waiting:
            self._waiting.remove(self._incoming)
            self._incoming = None
        self._advance()

    def _receive_expired(self) -> None:
        if not self._in_head:
            self._refuse(BODY_TOO_SLOW)
        elif self._active is not None:
            self._stop_listening()
        else:
            self._close()

    def _watch_sending(self, seconds: float) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._sending.set(seconds)

    def _send_expired(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:
            self._watch_sending(_LINGER_S if self._deaf else self._limits.stall_s)
            return
        self.abort()

    def _reset(self) -> None:
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()


def _split(url: bytes) -> tuple[str, str]:
    """Path and query of a request target, whose absolute form names a host that nobody asked for."""
    if not url.startswith(b"/"):
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1"), ""
        return (parsed.path or b"/").decode("latin-1"), (parsed.query or b"").decode("latin-1")
    path, _, query = url.partition(b"?")
    return path.decode("latin-1"), query.decode("latin-1")
