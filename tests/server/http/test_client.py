"""What an upstream answers: given as it comes, and every cut has its name."""

import asyncio
import socket

import pytest

from server.http.client import UpstreamPool
from server.http.errors import (
    BodyCut,
    BodyTooLarge,
    ConnectFailed,
    ResponseLost,
    UpstreamError,
    UpstreamTimeout,
)
from tests.server.http.scripts import CHUNKED, OK, sends


async def hang(reader, writer):
    await reader.read(-1)


async def collect(request, got: bytearray) -> None:
    async with request as response:
        async for piece in response.chunks():
            got += piece


async def test_an_upstream_that_vanishes_is_missed_by_the_system(upstream, pool):
    """No reset comes from an instance that is gone: the kernel asks within 5 s and gives up within 12."""
    connection = await pool.connect((await upstream(hang)).address)
    sock = connection._transport.get_extra_info("socket")
    options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [5, 2, 3, 10_000]
    connection.close()


async def test_a_body_arrives_piece_by_piece(upstream, pool):
    """A chunk is given when it has come, before the next is sent."""
    read = asyncio.Event()

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        for piece in (b"one", b"two"):
            writer.write(b"3\r\n%b\r\n" % piece)
            await read.wait()
            read.clear()
        writer.write(b"0\r\n\r\n")
        await read.wait()

    server = await upstream(script)
    got = []
    async with pool.request(server.address, "GET", "/", []) as response:
        async for piece in response.chunks():
            got.append(piece)
            read.set()
    read.set()
    assert got == [b"one", b"two"]
    assert response.status == 200


async def test_a_request_is_framed_by_the_pool(upstream, pool):
    """Framing, host and connection headers of the caller are replaced by the pool's own."""
    seen = []

    async def script(reader, writer):
        seen.append(await server.request(reader))
        writer.write(OK)

    server = await upstream(script)
    hop = [(b"transfer-encoding", b"chunked"), (b"Host", b"x"), (b"connection", b"upgrade"), (b"X-A", b"b")]
    async with pool.request(server.address, "POST", "/p?q", hop, b"body") as response:
        assert await response.read(10) == b"{}"
    host, port = server.address
    assert seen[0] == (
        b"POST /p?q HTTP/1.1\r\nhost: %b:%d\r\nX-A: b\r\ncontent-length: 4\r\n\r\n" % (host.encode(), port)
    )


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/a b", []),
        ("GET", "/a\r\nx: y", []),
        ("GET / HTTP/1.1\r\nx:", "/", []),
        ("GET", "/", [(b"x", b"a\r\nb: c")]),
        ("GET", "/", [(b"x\r\ny", b"a")]),
        ("GET", "/", [(b"x", b"a\0")]),
    ],
)
async def test_a_request_cannot_be_split(pool, method, target, headers):
    """What would write a second request into the first is refused before anything is sent."""
    with pytest.raises(ValueError, match="framing"):
        pool.request(("127.0.0.1", 1), method, target, headers)


CUTS = {
    "closed at once": ([], ResponseLost),
    "half a status line": ([b"HTTP/1.1 2"], ResponseLost),
    "half a head": ([b"HTTP/1.1 200 OK\r\ncontent-le"], ResponseLost),
    "only an interim response": ([b"HTTP/1.1 100 Continue\r\n\r\n"], ResponseLost),
    "not HTTP": ([b"SSH-2.0-OpenSSH\r\n"], ResponseLost),
    "length and chunked": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
        ResponseLost,
    ),
    "a head without end": ([b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"a" * 1000 + b"\r\n"] * 80], ResponseLost),
    "no body": ([b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"], BodyCut),
    "half a body": ([b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab"], BodyCut),
    "no chunk": ([CHUNKED], BodyCut),
    "half a chunk": ([CHUNKED, b"4\r\nab"], BodyCut),
    "between two chunks": ([CHUNKED, b"2\r\nab\r\n"], BodyCut),
    "inside the last chunk": ([CHUNKED, b"2\r\nab\r\n0\r\n"], BodyCut),
    "a chunk size that is none": ([CHUNKED, b"2\r\nab\r\nzz\r\n"], BodyCut),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("case", CUTS)
async def test_a_cut_is_never_a_clean_end(upstream, pool, case, reset):
    """Each stage at which an upstream can go has its error, and the connection is gone from the pool."""
    pieces, expected = CUTS[case]
    server = await upstream(sends(*pieces, reset=reset))
    # A reset may overtake the bytes before it, so it may also cut at an earlier stage.
    with pytest.raises((expected, ResponseLost) if reset else expected):
        async with pool.request(server.address, "GET", "/", []) as response:
            await response.read(100)
    assert pool.open == pool.idle == 0


async def test_what_came_before_a_cut_is_given_first(upstream, pool):
    """A stream's bytes up to the cut reach the reader, then the error."""
    server = await upstream(sends(CHUNKED, b"2\r\nab\r\n"))
    got = bytearray()
    with pytest.raises(BodyCut):
        await collect(pool.request(server.address, "GET", "/", []), got)
    assert got == b"ab"


async def test_a_refused_connection_is_connect_failed(upstream, pool):
    """Nobody listens: nothing was sent, and the error says so."""
    server = await upstream(hang)
    assert server.server is not None
    server.server.close()
    await asyncio.sleep(0)
    with pytest.raises(ConnectFailed) as caught:
        async with pool.request(server.address, "GET", "/", []):
            pass
    assert isinstance(caught.value.__cause__, OSError)
    assert pool.open == 0


async def test_a_connect_that_takes_too_long_is_connect_failed(upstream):
    """The connect timeout is a failed connect, not a timeout of the request."""
    server = await upstream(hang)
    pool = UpstreamPool(connect_timeout_s=0)
    with pytest.raises(ConnectFailed, match="timed out"):
        async with pool.request(server.address, "GET", "/", []):
            pass
    assert pool.open == 0


async def test_a_body_without_length_ends_with_its_connection(upstream, pool):
    """HTTP/1.0 style: a close is the end, a reset is not."""
    server = await upstream(sends(b"HTTP/1.1 200 OK\r\n\r\nall of it"))
    async with pool.request(server.address, "GET", "/", []) as response:
        assert await response.read(100) == b"all of it"
    assert pool.open == 0


async def test_interim_responses_are_passed_over(upstream, pool):
    """100 and 103 are not the response."""
    server = await upstream(
        sends(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
    )
    async with pool.request(server.address, "GET", "/", []) as response:
        assert (response.status, len(response.headers)) == (200, 1)
        assert await response.read(100) == b"{}"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    ],
)
async def test_bodyless_responses_end_at_their_head(upstream, pool, method, answer):
    """HEAD, 204 and 304 have no body whatever their headers say."""

    async def script(reader, writer):
        await server.request(reader)
        writer.write(answer)
        await reader.read(-1)

    server = await upstream(script)
    async with pool.request(server.address, method, "/", []) as response:
        assert await response.read(10) == b""


async def test_silence_before_the_head_is_a_timeout(upstream, pool):
    """`head_timeout_s` bounds the wait for the head, and the connection is closed."""
    server = await upstream(hang)
    with pytest.raises(UpstreamTimeout, match="before its response"):
        async with pool.request(server.address, "GET", "/", [], head_timeout_s=0.05):
            pass
    assert pool.idle == 0


async def test_silence_inside_the_body_is_a_timeout(upstream, pool):
    """`chunk_timeout_s` bounds each silence, after what came before it was given."""

    async def script(reader, writer):
        await server.request(reader)
        writer.write(CHUNKED + b"2\r\nab\r\n")
        await reader.read(-1)

    server = await upstream(script)
    got = bytearray()
    with pytest.raises(UpstreamTimeout, match="inside its body"):
        await collect(pool.request(server.address, "GET", "/", [], chunk_timeout_s=0.05), got)
    assert got == b"ab"


async def test_a_slow_reader_of_ours_is_no_silence_of_the_upstream(upstream, pool):
    """Time that the consumer takes between two chunks does not count as the upstream's."""
    server = await upstream(sends(CHUNKED, b"2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n"))
    resumed = asyncio.Event()
    async with pool.request(server.address, "GET", "/", [], chunk_timeout_s=0.05) as response:
        body = response.chunks()
        got = await anext(body)
        asyncio.get_running_loop().call_later(0.2, resumed.set)
        await resumed.wait()
        async for piece in body:
            got += piece
    assert got == b"abcd"


async def test_reading_stops_an_endless_upstream(upstream, pool, until):
    """An upstream that nobody reads is held by its socket; what we hold is small."""
    sent = 0
    total = 32 * 1024 * 1024

    async def script(reader, writer):
        nonlocal sent
        await server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    server = await upstream(script)
    async with pool.request(server.address, "GET", "/", []) as response:
        before = -1
        while sent != before:
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        assert sent < 12 * 1024 * 1024
        largest = size = 0
        async for piece in response.chunks():
            size += len(piece)
            largest = max(largest, len(piece))
        assert size == total
        assert largest < 1024 * 1024


async def test_reading_has_a_limit(upstream, pool):
    """A body over the caller's limit is not collected, and its connection is closed."""
    server = await upstream(sends(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + b"a" * 99))
    with pytest.raises(BodyTooLarge):
        async with pool.request(server.address, "GET", "/", []) as response:
            await response.read(98)
    assert pool.idle == 0


async def test_every_upstream_error_is_one_kind(upstream, pool):
    """A caller can catch UpstreamError alone."""
    assert all(
        issubclass(kind, UpstreamError) for kind in (ConnectFailed, ResponseLost, BodyCut, UpstreamTimeout)
    )
