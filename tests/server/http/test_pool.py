"""Connections to upstreams: used again, never confused, none leaks."""

import asyncio
import random
from contextlib import suppress

import pytest

from server.http.client import UpstreamPool
from server.http.errors import ConnectFailed, ResponseLost
from server.http.server import Exchange
from tests.server.http.scripts import CHUNKED, OK, sends


def polite(answer: bytes = OK):
    """A script that serves request after request."""

    def bind(holder):
        async def script(reader, writer):
            while True:
                await holder[0].request(reader)
                writer.write(answer)

        return script

    return bind


@pytest.fixture
async def polite_upstream(upstream):
    holder: list = []
    holder.append(await upstream(polite()(holder)))
    return holder[0]


async def test_a_connection_is_used_again(polite_upstream, pool):
    """Requests one after another share one connection."""
    for _ in range(3):
        async with pool.request(polite_upstream.address, "POST", "/", [], b"x") as response:
            await response.read(10)
    assert (polite_upstream.connections, polite_upstream.requests, pool.idle) == (1, 3, 1)


async def test_leaving_early_closes_the_connection(upstream, pool, until):
    """An unfinished response is cancelled upstream at once and its connection never used again."""
    noticed = asyncio.Event()

    async def script(reader, writer):
        await server.request(reader)
        writer.write(CHUNKED + b"2\r\nab\r\n")
        with suppress(ConnectionError):
            await reader.read(-1)
        noticed.set()

    server = await upstream(script)
    async with pool.request(server.address, "GET", "/", []) as response:
        assert await anext(response.chunks()) == b"ab"
    async with asyncio.timeout(10):
        await noticed.wait()
    await until(lambda: pool.open == 0)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", OK + b"extra"]
)
async def test_a_connection_with_a_doubt_is_not_used_again(upstream, pool, answer):
    """`connection: close`, or bytes behind the response, end the connection: responses cannot be mixed up."""
    holder: list = []
    holder.append(await upstream(polite(answer)(holder)))
    for _ in range(2):
        async with pool.request(holder[0].address, "GET", "/", []) as response:
            assert await response.read(10) == b"{}"
    assert holder[0].connections == 2


async def test_bytes_on_an_idle_connection_end_it(upstream, pool, until):
    """An upstream that speaks unasked cannot plant an answer for the next request."""
    speak = asyncio.Event()

    async def script(reader, writer):
        await server.request(reader)
        writer.write(OK)
        await speak.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nplanted")
        await reader.read(-1)

    server = await upstream(script)
    async with pool.request(server.address, "GET", "/", []) as response:
        await response.read(10)
    speak.set()
    await until(lambda: pool.open == 0)


async def test_a_stale_connection_costs_no_request(upstream, pool):
    """An idle connection that the upstream closes on the next request is replaced by a fresh one."""

    async def script(reader, writer):
        await server.request(reader)
        writer.write(OK)
        if server.connections == 1:
            # Takes the second request and closes without a word, as an expired keep-alive does.
            await reader.readuntil(b"\r\n\r\n")
            return
        await reader.read(-1)

    server = await upstream(script)
    for _ in range(2):
        async with pool.request(server.address, "GET", "/", []) as response:
            assert await response.read(10) == b"{}"
    assert server.connections == 2


@pytest.mark.parametrize("word", [b"H", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_a_response_that_began_is_never_asked_for_again(upstream, pool, word):
    """One byte of a response on a reused connection, and the request may have been served: no redo."""

    async def script(reader, writer):
        await server.request(reader)
        writer.write(OK)
        await server.request(reader)
        writer.write(word)

    server = await upstream(script)
    async with pool.request(server.address, "GET", "/", []) as response:
        await response.read(10)
    with pytest.raises(ResponseLost):
        async with pool.request(server.address, "GET", "/", []):
            pass
    assert (server.connections, server.requests) == (1, 2)


async def test_a_fresh_connection_is_not_redone(upstream, pool):
    """Cut before the head on a fresh connection: whether to retry is the caller's decision."""
    server = await upstream(sends())
    with pytest.raises(ResponseLost):
        async with pool.request(server.address, "GET", "/", []):
            pass
    assert server.connections == 1


async def test_idle_connections_are_bounded(upstream, until):
    """A burst leaves at most `max_idle_per_host` connections behind."""
    holder: list = []
    holder.append(await upstream(polite()(holder)))
    pool = UpstreamPool(max_idle_per_host=2)

    async def ask() -> None:
        async with pool.request(holder[0].address, "GET", "/", []) as response:
            await response.read(10)

    await asyncio.gather(*(ask() for _ in range(10)))
    assert pool.idle == 2
    await until(lambda: pool.open == 2)
    await pool.aclose()
    await until(lambda: pool.open == 0)


async def test_connections_idle_for_too_long_are_replaced(polite_upstream):
    """Expired connections are closed, and none is ever lent to two requests at once."""
    pool = UpstreamPool(idle_s=0)

    async def ask() -> None:
        async with pool.request(polite_upstream.address, "GET", "/", []) as response:
            await response.read(10)

    for _ in range(3):
        await asyncio.gather(*(ask() for _ in range(4)))
        assert (pool.open, pool.idle) == (4, 4)
    assert polite_upstream.connections == 12
    await pool.aclose()


async def test_a_closed_pool_connects_no_more(polite_upstream):
    """After aclose a request fails at once."""
    pool = UpstreamPool()
    await pool.aclose()
    with pytest.raises(ConnectFailed):
        async with pool.request(polite_upstream.address, "GET", "/", []):
            pass


async def test_churned_cancellation_leaks_nothing(polite_upstream, pool, until):
    """After 500 requests cancelled at every stage, fresh ones succeed and no connection is left over."""
    rng = random.Random(7)

    async def ask() -> bytes:
        async with pool.request(polite_upstream.address, "POST", "/", [], b"{}") as response:
            return await response.read(10)

    cancelled = 0
    while cancelled < 500:
        tasks = [asyncio.create_task(ask()) for _ in range(10)]
        for task in tasks:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            cancelled += task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(ask() for _ in range(20))) == [b"{}"] * 20
    await until(lambda: pool.open == pool.idle)
    await until(lambda: polite_upstream.connections - polite_upstream.closed == pool.open)
    assert pool.open <= 64


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_leaves_a_proxy_cancels_the_upstream(serve, upstream, pool, streaming):
    """Through server and pool: the client goes, the upstream's connection is closed at once."""
    asked, noticed = asyncio.Event(), asyncio.Event()

    async def script(reader, writer):
        await one.request(reader)
        if streaming:
            writer.write(CHUNKED + b"2\r\nab\r\n")
        asked.set()
        with suppress(ConnectionError):
            await reader.read(-1)
        noticed.set()

    one = await upstream(script)

    async def proxy(exchange: Exchange) -> None:
        async with pool.request(one.address, "GET", "/", []) as response:
            await exchange.start(response.status, [])
            async for piece in response.chunks():
                await exchange.write(piece)
            await exchange.end()

    client = await (await serve(proxy)).connect()
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    async with asyncio.timeout(10):
        await asked.wait()
        client.close()
        await noticed.wait()
