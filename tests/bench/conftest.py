"""The fake engine on a real loopback socket, in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bench.answers import whole_length
from bench.engine import Connection, Engine
from bench.load import Address

PATIENCE_S = 15.0


async def until(holds: Callable[[], object]) -> None:
    """Lets everything else run until it holds, or time is up."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def address(engine: Engine) -> AsyncIterator[Address]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine, loop), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2]
    server.close()
    for connection in list(engine.connections):
        connection.stop(cut=True)
    await server.wait_closed()


@pytest.fixture
def exchange(address: Address) -> Callable[[bytes], Awaitable[bytes]]:
    """One whole answer on a connection of its own; what came until the connection ended otherwise."""

    async def exchanged(raw: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(raw)
            answer = b""
            while whole_length(answer) is None and (data := await reader.read(65536)):
                answer += data
            writer.close()
            await writer.wait_closed()
            return answer

    return exchanged
