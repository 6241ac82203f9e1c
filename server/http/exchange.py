"""One request and its response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from server.http.errors import BodyTooLarge, ClientGone
from server.http.framing import Refusal, ResponseHead
from server.http.headers import Headers, RawHeaders


class Wire(Protocol):
    """What an exchange needs of the connection it lives on."""

    def frame(self, exchange: Exchange, status: int, pairs: RawHeaders) -> ResponseHead: ...
    def send(self, data: bytes) -> None: ...
    @property
    def keeps_up(self) -> bool: ...
    async def drained(self) -> None: ...
    def continue_(self) -> None: ...
    def cut(self, exchange: Exchange) -> None: ...


class Request:
    """What the client asked. `path` is as sent, not unquoted; `peer` is the client's IP address."""

    __slots__ = (
        "_buffer",
        "_changed",
        "_complete",
        "_cut",
        "_wire",
        "headers",
        "method",
        "path",
        "peer",
        "query",
    )

    def __init__(self, wire: Wire, method: str, path: str, query: str, headers: Headers, peer: str) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = peer
        self._wire = wire
        self._buffer = bytearray()
        self._complete = False
        self._cut = False
        self._changed: asyncio.Future[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived."""
        return self._complete

    @property
    def received(self) -> int:
        """Bytes of body that have arrived."""
        return len(self._buffer)

    async def body(self, limit: int) -> bytes:
        """The whole body, once it is here.

        Raises BodyTooLarge as soon as it is known to be over `limit` bytes, ClientGone if it never ends.
        """
        declared = int(self.headers.get("content-length") or 0)
        if declared > limit:
            raise BodyTooLarge(limit)
        if not self._complete and (self.headers.get("expect") or "").lower() == "100-continue":
            self._wire.continue_()
        while True:
            if len(self._buffer) > limit:
                raise BodyTooLarge(limit)
            if self._complete:
                return bytes(self._buffer)
            if self._cut:
                raise ClientGone("the client left before its request was whole")
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    def feed(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def finish(self) -> None:
        self._complete = True
        self._wake()

    def cut(self) -> None:
        self._cut = True
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Exchange:
    """One request and its response, in the order: start, write..., end. Or abort, at any point."""

    __slots__ = ("_sent", "_wire", "closed", "head", "keep_alive", "refusal", "request", "version")

    def __init__(self, wire: Wire, request: Request, version: str, *, keep_alive: bool) -> None:
        self.request = request
        self.version = version
        self.keep_alive = keep_alive
        self.closed = False
        self._wire = wire
        self.head: ResponseHead | None = None
        self.refusal: Refusal | None = None
        """What the HTTP layer answers in the handler's place, which it has cancelled for it."""
        self._sent = 0

    @property
    def started(self) -> bool:
        """Whether the client has been sent a status; before that an error can still be answered."""
        return self.head is not None

    @property
    def keeps_up(self) -> bool:
        """Whether what is pushed now goes out at once: the client is there, and takes what it is sent."""
        return not self.closed and self._wire.keeps_up

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the head: chunked unless `headers` give a content-length.

        Raises ValueError for headers that would split the response, ClientGone if the client left.
        """
        self.begin(status, headers)

    def begin(self, status: int, headers: RawHeaders) -> None:
        """`start` without waiting, which it never does."""
        self._begin(status, headers)
        assert self.head is not None
        self._wire.send(self.head.wire)

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; returns once the client keeps up (its buffer is below high water).

        Raises ClientGone if the client left.
        """
        self.push(data)
        if not self._wire.keeps_up:
            await self._wire.drained()

    def push(self, data: bytes) -> None:
        """Send a piece of the body without waiting: for who has seen that the client `keeps_up`.

        Raises ClientGone if the client left.
        """
        if not data:
            return
        head = self.head
        if head is not None and head.chunked and not self.closed:
            self._wire.send(b"%x\r\n%b\r\n" % (len(data), data))
            return
        head = self._open_head()
        if head.has_body:
            self._send_piece(head, data)

    async def end(self) -> None:
        """End the response so that the client knows it has all of it."""
        head = self._open_head()
        if head.has_body and head.content_length is not None and self._sent != head.content_length:
            self.abort()
            raise RuntimeError(
                f"the response has {self._sent} bytes of the {head.content_length} it promised"
            )
        self.closed = True
        if head.chunked:
            self._wire.send(b"0\r\n\r\n")

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole."""
        self.closed = True
        self._wire.cut(self)

    async def respond(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Send a whole response at once."""
        self._begin(status, [*headers, (b"content-length", b"%d" % len(body))])
        head = self._open_head()
        self.closed = True
        self._wire.send(head.wire + body if head.has_body else head.wire)
        if not self._wire.keeps_up:
            await self._wire.drained()

    def _begin(self, status: int, headers: RawHeaders) -> None:
        if self.head is not None:
            raise RuntimeError("the response has started already")
        if self.closed:
            raise ClientGone("the connection is cut")
        self.head = self._wire.frame(self, status, headers)

    def _send_piece(self, head: ResponseHead, data: bytes) -> None:
        self._sent += len(data)
        if head.content_length is not None and self._sent > head.content_length:
            self.abort()
            raise RuntimeError(f"the response is longer than the {head.content_length} bytes it promised")
        self._wire.send(data)

    def _open_head(self) -> ResponseHead:
        if self.head is None:
            raise RuntimeError("start the response first")
        if self.closed:
            raise ClientGone("the response has ended or was cut")
        return self.head


Handler = Callable[[Exchange], Awaitable[None]]
