"""The way to upstreams: pooled connections, streamed responses, errors that say what is safe to retry."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType

from server.http.errors import BodyTooLarge, ConnectFailed, ResponseLost
from server.http.framing import request_head
from server.http.headers import Headers
from server.http.upstream import Push, UpstreamConnection

Address = tuple[str, int]


class UpstreamResponse:
    """A response whose head is here and whose body is on its way."""

    __slots__ = ("_chunk_timeout_s", "_connection", "headers", "status")

    def __init__(self, connection: UpstreamConnection, chunk_timeout_s: float | None) -> None:
        self._connection = connection
        self._chunk_timeout_s = chunk_timeout_s
        self.status: int = connection.status
        self.headers: Headers = connection.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, without its transfer coding.

        Ends only where the body ends. Raises BodyCut, or UpstreamTimeout after `chunk_timeout_s` of silence.
        """
        while data := await self._connection.take(self._chunk_timeout_s):
            yield data
            # Not held while the next is awaited, which may be long.
            del data

    def push_to(self, push: Push | None) -> None:
        """While `chunks` waits, give `push` what arrives; what it returns is left for `chunks`.

        It is called from the connection, so that no task wakes: it must neither block nor raise.
        """
        self._connection.push = push

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge over `limit` bytes, BodyCut, UpstreamTimeout."""
        body = bytearray()
        while data := await self._connection.take(self._chunk_timeout_s):
            body += data
            if len(body) > limit:
                raise BodyTooLarge(limit)
        return bytes(body)


@dataclass(frozen=True)
class _Idle:
    connection: UpstreamConnection
    since: float


class UpstreamPool:
    """Keeps idle connections per address; one request at a time on each.

    `connect_timeout_s` bounds the TCP connect. A connection idle for `idle_s` seconds is not used again:
    less than the 75 s for which our servers keep one, so that we close first. The number of connections
    is not bounded here: the caller admits requests.
    """

    def __init__(
        self, *, connect_timeout_s: float = 1.0, max_idle_per_host: int = 64, idle_s: float = 60.0
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._max_idle = max_idle_per_host
        self._idle: defaultdict[Address, list[_Idle]] = defaultdict(list)
        self._open: dict[UpstreamConnection, Address] = {}
        self._closed = False

    @property
    def open(self) -> int:
        """Connections that exist, idle or busy."""
        return len(self._open)

    @property
    def idle(self) -> int:
        return sum(len(stack) for stack in self._idle.values())

    def request(
        self,
        address: Address,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes = b"",
        *,
        head_timeout_s: float | None = None,
        chunk_timeout_s: float | None = None,
    ) -> RequestContext:
        """Send a request; entering the context waits for the response's head.

        `head_timeout_s` bounds that wait, `chunk_timeout_s` each silence inside the body; None: no bound.
        Entering raises ConnectFailed, ResponseLost, UpstreamTimeout, and ValueError for headers that
        would split the request. Leaving before the body's end closes the connection, which cancels the
        request upstream.
        """
        host, port = address
        wire = request_head(method, target, headers, f"{host}:{port}", body) + body
        return RequestContext(self, address, method, wire, head_timeout_s, chunk_timeout_s)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        self._closed = True
        for connection in list(self._open):
            connection.close()
        self._idle.clear()

    def reuse(self, address: Address) -> UpstreamConnection | None:
        """The idle connection to `address` used last, if there is one."""
        now = asyncio.get_running_loop().time()
        stack = self._idle.get(address, [])
        while stack:
            idle = stack.pop()
            if idle.connection.usable and now - idle.since < self._idle_s:
                return idle.connection
            idle.connection.close()
        return None

    async def connect(self, address: Address) -> UpstreamConnection:
        """A fresh connection. Raises ConnectFailed."""
        if self._closed:
            raise ConnectFailed("the pool is closed")
        loop = asyncio.get_running_loop()
        host, port = address
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(loop, self._forget), host, port
                )
        except (OSError, TimeoutError) as exc:
            raise ConnectFailed(f"no connection to {host}:{port}: {str(exc) or 'timed out'}") from exc
        self._open[connection] = address
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose response is over for the next request, else close it."""
        address = self._open.get(connection)
        if address is None or self._closed or not connection.reusable:
            connection.close()
            return
        connection.release()
        stack = self._idle[address]
        stack.append(_Idle(connection, asyncio.get_running_loop().time()))
        if len(stack) > self._max_idle:
            stack.pop(0).connection.close()

    def _forget(self, connection: UpstreamConnection) -> None:
        address = self._open.pop(connection, None)
        if address is None or address not in self._idle:
            return
        # In place: `reuse` may be walking this very list.
        stack = self._idle[address]
        stack[:] = [idle for idle in stack if idle.connection is not connection]
        if not stack:
            del self._idle[address]


class RequestContext:
    """What `async with pool.request(...)` enters."""

    __slots__ = (
        "_address",
        "_chunk_timeout_s",
        "_connection",
        "_head_timeout_s",
        "_method",
        "_pool",
        "_wire",
    )

    def __init__(
        self,
        pool: UpstreamPool,
        address: Address,
        method: str,
        wire: bytes,
        head_timeout_s: float | None,
        chunk_timeout_s: float | None,
    ) -> None:
        self._pool = pool
        self._address = address
        self._method = method
        self._wire = wire
        self._head_timeout_s = head_timeout_s
        self._chunk_timeout_s = chunk_timeout_s
        self._connection: UpstreamConnection | None = None

    @property
    def connection(self) -> UpstreamConnection | None:
        """The connection that the request went out on; None before there is one."""
        return self._connection

    async def __aenter__(self) -> UpstreamResponse:
        reused = self._pool.reuse(self._address)
        if reused is not None and await self._asked(reused):
            return UpstreamResponse(reused, self._chunk_timeout_s)
        fresh = await self._pool.connect(self._address)
        await self._ask(fresh)
        return UpstreamResponse(fresh, self._chunk_timeout_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._pool.give_back(self._connection)

    async def _asked(self, reused: UpstreamConnection) -> bool:
        """False when the idle connection turned out to be closed by the upstream in the meantime."""
        try:
            await self._ask(reused)
        except ResponseLost:
            if reused.heard:
                raise
            return False
        return True

    async def _ask(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        try:
            connection.send(self._method, self._wire)
            await connection.head(self._head_timeout_s)
        except BaseException:
            # Whatever ended the wait, a cancellation too: the response must not meet the next request.
            connection.close()
            raise
