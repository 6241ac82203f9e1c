"""The serving port: a small HTTP/1.1 server whose handler sees one exchange at a time."""

import asyncio
import logging
import secrets
from collections.abc import Callable

from server.http.connection import Limits, ServerConnection, Shared
from server.http.exchange import Exchange, Handler, Request

__all__ = ["Exchange", "Handler", "HttpServer", "Request"]

_BACKLOG = 2048
# Cancelled handlers get this long to unwind before the server gives them up.
_UNWIND_S = 2.0


def _log_failure(exc: Exception) -> None:
    logging.getLogger(__name__).error("request handler failed", exc_info=exc)


def _random_request_id() -> str:
    return f"req_{secrets.token_hex(12)}"


class HttpServer:
    """Listens, and calls `handler` for each request in a task that is cancelled when the client leaves.

    While `closing` is True every response carries `connection: close`. `failed` is told of what a
    handler raises; the client gets a 500 envelope, or a cut connection if its response had started.
    `new_request_id` names what the server refuses itself; a handler names its own responses.
    A client that takes nothing of what is sent for `stall_s` seconds is cut. Connections beyond
    `max_connections` are answered 503, or cut when they are many.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        header_deadline_s: float = 10.0,
        body_deadline_s: float = 60.0,
        keep_alive_s: float = 75.0,
        stall_s: float = 60.0,
        max_header_bytes: int = 32 * 1024,
        max_body_bytes: int = 16 * 1024 * 1024,
        max_connections: int = 20_000,
        failed: Callable[[Exception], None] = _log_failure,
        new_request_id: Callable[[], str] = _random_request_id,
    ) -> None:
        limits = Limits(
            header_deadline_s,
            body_deadline_s,
            keep_alive_s,
            stall_s,
            max_header_bytes,
            max_body_bytes,
            max_connections,
        )
        self._shared = Shared(handler, limits, failed, new_request_id)
        self._listeners: list[asyncio.Server] = []

    @property
    def closing(self) -> bool:
        return self._shared.closing

    @closing.setter
    def closing(self, value: bool) -> None:
        self._shared.closing = value

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._shared.connections)

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; returns the port, which the system chooses for port 0. Raises OSError."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: ServerConnection(self._shared, loop), host, port, backlog=_BACKLOG
        )
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    def cut(self) -> None:
        """Cut every connection now; what runs on it is cancelled. New ones are still accepted."""
        for connection in list(self._shared.connections):
            connection.abort()

    async def aclose(self, grace_s: float) -> None:
        """Stop accepting, let requests under way finish for `grace_s` seconds, then cut what is left."""
        for listener in self._listeners:
            listener.close()
        self._shared.closing = True
        for connection in list(self._shared.connections):
            connection.close_if_idle()
        await self._emptied(grace_s)
        tasks = [connection.abort() for connection in list(self._shared.connections)]
        unwinding = [task for task in tasks if task is not None]
        if unwinding:
            await asyncio.wait(unwinding, timeout=_UNWIND_S)
        await self._emptied(_UNWIND_S)

    async def _emptied(self, timeout_s: float) -> None:
        if not self._shared.connections:
            return
        try:
            await asyncio.wait_for(self._shared.emptied.wait(), timeout_s)
        except TimeoutError:
            return
