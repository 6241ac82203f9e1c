"""Both event loops, and raw sockets on both sides: what is tested is bytes."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from server.http.client import UpstreamPool
from server.http.server import Handler, HttpServer

PATIENCE_S = 10.0


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], Any]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class RawClient:
    """A client that sends exactly the bytes it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read(-1)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Serving:
    """A server under test."""

    server: HttpServer
    port: int
    failures: list[Exception]
    stack: AsyncExitStack

    async def connect(self) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        self.stack.callback(writer.close)
        return RawClient(reader, writer)

    async def ask(self, data: bytes) -> bytes:
        """Everything that comes back for `data` until the server closes."""
        client = await self.connect()
        client.send(data)
        return await client.rest()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Serving]]]:
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, **limits: Any) -> Serving:
            failures: list[Exception] = []
            server = HttpServer(handler, failed=failures.append, **limits)
            port = await server.listen("127.0.0.1", 0)
            stack.push_async_callback(server.aclose, 0)
            return Serving(server, port, failures, stack)

        yield start


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream:
    """An upstream that follows a script for each connection, and counts them."""

    script: Script
    connections: int = 0
    closed: int = 0
    requests: int = 0
    address: tuple[str, int] = ("", 0)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    server: asyncio.Server | None = None

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()[:2]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self.script(reader, writer)
        finally:
            self.closed += 1
            self.tasks.discard(task)
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Reads one request, body included; returns its head."""
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.split(b":")[1]))
        self.requests += 1
        return head

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[[Script], Awaitable[Upstream]]]:
    opened: list[Upstream] = []

    async def start(script: Script) -> Upstream:
        upstream = Upstream(script)
        await upstream.open()
        opened.append(upstream)
        return upstream

    yield start
    for one in opened:
        await one.close()


@pytest.fixture
async def pool() -> AsyncIterator[UpstreamPool]:
    pool = UpstreamPool()
    yield pool
    await pool.aclose()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits for a condition by letting the loop run, for `PATIENCE_S` seconds at most."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  any state of any object may be the condition
                await asyncio.sleep(0)

    return wait


@pytest.fixture(autouse=True)
async def no_stray_tasks() -> AsyncIterator[None]:
    """Every test leaves no task of the server behind."""
    yield
    for _ in range(20):
        await asyncio.sleep(0)
    stray = [task for task in asyncio.all_tasks() if "ServerConnection" in repr(task)]
    assert stray == []
