"""The serving port: requests whole and in order, keep-alive, and its end."""

import asyncio
import json

import pytest

from server.http.errors import BodyTooLarge
from server.http.server import Exchange
from tests.server.http.scripts import GET, LAST, body_of, stream_then_hang


async def echo(exchange: Exchange) -> None:
    request = exchange.request
    body = await request.body(1 << 20)
    answer = {"method": request.method, "path": request.path, "query": request.query, "body": body.decode()}
    await exchange.respond(200, [(b"content-type", b"application/json")], json.dumps(answer).encode())


async def test_a_request_arrives_whole(serve):
    """Method, path, query and body reach the handler as the client sent them."""
    serving = await serve(echo)
    answer = await serving.ask(
        b"POST /a%20b?c=d HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body_of(answer) == {"method": "POST", "path": "/a%20b", "query": "c=d", "body": "hello"}


async def test_a_chunked_body_is_joined_whatever_its_pieces(serve):
    """A chunked request sent byte by byte is the same request."""
    serving = await serve(echo)
    client = await serving.connect()
    head = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    for byte in head + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n":
        client.send(bytes([byte]))
        await client.writer.drain()
    assert body_of(await client.rest())["body"] == "abcde"


async def test_the_absolute_form_names_a_path(serve):
    """The host inside an absolute-form target is not part of the path."""
    serving = await serve(echo)
    answer = await serving.ask(b"GET http://evil/p?q=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert (body_of(answer)["path"], body_of(answer)["query"]) == ("/p", "q=1")


async def test_each_piece_is_sent_when_it_is_written(serve):
    """A client reads a piece before the handler goes on to the next: nothing is buffered."""
    read = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-type", b"text/event-stream")])
        for number in range(3):
            await exchange.write(b"data: %d\n\n" % number)
            await read.wait()
            read.clear()
        await exchange.end()

    client = await (await serve(handler)).connect()
    client.send(LAST)
    assert b"transfer-encoding: chunked" in await client.head()
    for number in range(3):
        assert await client.until(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
        read.set()
    assert await client.rest() == b"0\r\n\r\n"


async def test_a_connection_serves_many_requests(serve):
    """Keep-alive: one connection, three exchanges."""
    serving = await serve(echo)
    client = await serving.connect()
    for _ in range(3):
        client.send(GET)
        assert b"connection: close" not in await client.head()
        await client.until(b"}")
    assert serving.server.connections == 1


async def test_pipelined_requests_are_answered_in_order(serve):
    """Requests sent at once are answered one after another, a slow first one included."""
    release = asyncio.Event()
    running = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        assert running == 1
        if exchange.request.path == "/path-0":
            await release.wait()
        running -= 1
        await exchange.respond(200, [], exchange.request.path.encode())

    serving = await serve(handler)
    client = await serving.connect()
    for number in range(4):
        client.send(b"GET /path-%d HTTP/1.1\r\nhost: a\r\n\r\n" % number)
    client.send(b"GET /path-4 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    release.set()
    answer = await client.rest()
    places = [answer.index(b"path-%d" % number) for number in range(5)]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 5
    assert serving.failures == []


async def test_a_client_that_sends_too_far_ahead_is_closed_after_its_turn(serve, until):
    """Requests ahead are bounded: the one under way is answered, then the connection closes."""
    release = asyncio.Event()
    served = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal served
        served += 1
        await release.wait()
        await exchange.respond(200, [], b"done")

    client = await (await serve(handler)).connect()
    client.send(GET)
    await until(lambda: served == 1)
    for _ in range(64):
        client.send(b"POST /y HTTP/1.1\r\nhost: a\r\ncontent-length: 65000\r\n\r\n" + b"a" * 65000)
    await client.writer.drain()
    release.set()
    answer = await client.rest()
    assert answer.count(b"HTTP/1.1 200 OK") == served == 1
    assert b"connection: close" in answer


async def test_the_body_cap_of_a_handler_is_413(serve):
    """A handler that lets BodyTooLarge through answers 413 with the error envelope, and closes."""

    async def handler(exchange: Exchange) -> None:
        await exchange.request.body(4)

    for framing in (
        b"content-length: 5\r\n\r\nhello",
        b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ):
        answer = await (await serve(handler)).ask(b"POST / HTTP/1.1\r\nhost: a\r\n" + framing)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert body_of(answer)["error"]["code"] == "body_too_large"


async def test_a_handler_may_answer_before_the_body_is_whole(serve):
    """An early answer reaches a client that is still sending, and the connection is not used again."""

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.request.body(10)
        except BodyTooLarge as exc:
            await exchange.respond(413, [], str(exc.limit).encode())

    serving = await serve(handler)
    client = await serving.connect()
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + b"a" * 50000)
    assert (await client.rest()).endswith(b"\r\n\r\n10")


async def test_a_client_that_expects_100_is_told_to_continue(serve):
    """`expect: 100-continue` gets its 100 when the handler wants the body."""
    client = await (await serve(echo)).connect()
    client.send(
        b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
        b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    )
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"ok")
    assert body_of(await client.rest())["body"] == "ok"


async def test_an_upgrade_is_answered_as_plain_http(serve):
    """An offer of another protocol is passed over; the connection closes after the answer."""
    answer = await (await serve(echo)).ask(
        b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer


async def test_head_has_no_body(serve):
    """HEAD is answered with the headers alone, and the connection stays usable."""
    serving = await serve(echo)
    answer = await serving.ask(b"HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n" + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b'"method"') == 1


async def test_closing_says_so_on_every_response(serve):
    """While `closing` is set each response ends its connection; afterwards connections are kept again."""
    serving = await serve(echo)
    serving.server.closing = True
    assert b"connection: close" in await serving.ask(GET)
    serving.server.closing = False
    client = await serving.connect()
    client.send(GET)
    assert b"connection: close" not in await client.head()


async def test_aclose_lets_requests_finish_within_the_grace(serve):
    """A closing server refuses new connections, closes idle ones, and lets a running request end."""
    began, release = asyncio.Event(), asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        began.set()
        await release.wait()
        await exchange.respond(200, [], b"done")

    serving = await serve(handler)
    idle, busy = await serving.connect(), await serving.connect()
    busy.send(GET)
    await began.wait()
    closing = asyncio.create_task(serving.server.aclose(5))
    assert await idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await serving.connect()
    release.set()
    assert (await busy.rest()).endswith(b"done")
    await closing
    assert serving.server.connections == 0


async def test_aclose_cuts_what_outlives_the_grace(serve):
    """After the grace a stream is cut uncleanly and its handler has unwound when aclose returns."""
    unwound = False

    async def handler(exchange: Exchange) -> None:
        nonlocal unwound
        try:
            await stream_then_hang(exchange)
        finally:
            await asyncio.sleep(0)
            unwound = True

    serving = await serve(handler)
    client = await serving.connect()
    client.send(GET)
    await client.until(b"first\r\n")
    await serving.server.aclose(0)
    assert unwound
    assert b"0\r\n\r\n" not in await client.rest()


async def test_connections_beyond_the_cap_are_turned_away(serve, until):
    """One too many is told so and closed, a flood is cut, and who was there before is served on."""

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(200, [], b"served")

    serving = await serve(handler, max_connections=1)
    first = await serving.connect()
    await until(lambda: serving.server.connections == 1)
    refused = await serving.connect()
    refused.send(GET)
    answer = await refused.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"too_many_connections" in answer
    for _ in range(80):
        await serving.connect()
    await until(lambda: serving.server.connections <= 65)
    first.send(GET)
    assert await first.until(b"served")
