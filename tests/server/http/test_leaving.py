"""Clients that leave, or read slowly or not at all."""

import asyncio

import pytest

from server.http.server import Exchange
from tests.server.http.scripts import GET, LAST, hang, stream_then_hang


async def write_forever(exchange: Exchange) -> None:
    await exchange.start(200, [])
    while True:
        await exchange.write(b"x" * 65536)


async def wait_for_body(exchange: Exchange) -> None:
    await exchange.request.body(100)


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize(
    ("handler", "request_bytes"),
    [
        (hang, GET),
        (stream_then_hang, GET),
        (write_forever, GET),
        (wait_for_body, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc"),
    ],
    ids=["waiting", "streaming", "blocked on a full socket", "reading the body"],
)
async def test_the_handler_is_cancelled_when_the_client_leaves(serve, until, leave, handler, request_bytes):
    """Whatever the handler is at, it is cancelled as soon as its client is gone, and only once."""
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def watched(exchange: Exchange) -> None:
        began.set()
        try:
            await handler(exchange)
        except asyncio.CancelledError:
            # A second cancellation would hit this clean-up.
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.set()
            raise

    serving = await serve(watched)
    client = await serving.connect()
    client.send(request_bytes)
    async with asyncio.timeout(10):
        await began.wait()
        getattr(client, leave)()
        await cleaned.wait()
    await until(lambda: serving.server.connections == 0)
    assert serving.failures == []


async def test_leaving_with_the_whole_response_cancels_nothing(serve):
    """What a handler does after its response's end is not disturbed by the client closing."""
    left, finished = asyncio.Event(), asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [], b"done")
        await left.wait()
        finished.set()

    serving = await serve(handler)
    client = await serving.connect()
    client.send(GET)
    await client.until(b"done")
    client.close()
    await client.writer.wait_closed()
    left.set()
    async with asyncio.timeout(10):
        await finished.wait()


async def test_a_slow_reader_holds_the_handler_not_the_memory(serve, until):
    """The handler waits once the socket is full, and the client still gets every byte."""
    written = 0
    total = 64 * 1024 * 1024

    async def handler(exchange: Exchange) -> None:
        nonlocal written
        await exchange.start(200, [(b"content-length", b"%d" % total)])
        while written < total:
            await exchange.write(b"x" * 65536)
            written += 65536
        await exchange.end()

    client = await (await serve(handler)).connect()
    client.send(LAST)
    await client.head()
    before = -1
    while written != before:
        before = written
        for _ in range(200):
            await asyncio.sleep(0)
    # What is out is in the kernel's socket buffers, not in ours.
    assert written < 16 * 1024 * 1024
    assert len(await client.rest()) == total


async def test_a_reader_that_stops_for_good_is_cut(serve, until):
    """A client that takes nothing for `stall_s` seconds is cut and its handler cancelled."""
    cancelled = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        try:
            await write_forever(exchange)
        finally:
            cancelled.set()

    serving = await serve(handler, stall_s=0.2)
    client = await serving.connect()
    client.send(GET)
    async with asyncio.timeout(10):
        await cancelled.wait()
    await until(lambda: serving.server.connections == 0)
