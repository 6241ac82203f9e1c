"""The serving port: streaming, order, cancellation, back-pressure."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from server.http.errors import BodyTooLarge
from server.http.server import Exchange

GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


async def echo(exchange: Exchange) -> None:
    request = exchange.request
    body = await request.body(1 << 20)
    answer = {"method": request.method, "path": request.path, "query": request.query, "body": body.decode()}
    await exchange.respond(200, [(b"content-type", b"application/json")], json.dumps(answer).encode())


def body_of(answer: bytes) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return parsed


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


async def hang(_: Exchange) -> None:
    await asyncio.get_running_loop().create_future()


async def stream_then_hang(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"first")
    await hang(exchange)


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


async def raise_early(_: Exchange) -> None:
    raise ValueError("secret prompt")


async def answer_nothing(_: Exchange) -> None:
    return


async def split_response(exchange: Exchange) -> None:
    await exchange.respond(200, [(b"x-a", b"b\r\nx-injected: 1")], b"")


async def split_by_name(exchange: Exchange) -> None:
    await exchange.start(200, [(b"x-a: b\r\nx-injected", b"1")])


async def nul_in_value(exchange: Exchange) -> None:
    await exchange.start(200, [(b"x-a", b"b\0")])


async def two_lengths(exchange: Exchange) -> None:
    await exchange.respond(200, [(b"content-length", b"9")], b"body")


async def own_framing(exchange: Exchange) -> None:
    await exchange.start(200, [(b"transfer-encoding", b"chunked")])


@pytest.mark.parametrize(
    "handler",
    [raise_early, answer_nothing, split_response, split_by_name, nul_in_value, own_framing, two_lengths],
)
async def test_a_handler_that_fails_before_it_starts_is_500(serve, handler):
    """The client gets a 500 envelope that says nothing of the failure, which is reported to `failed`."""
    serving = await serve(handler)
    answer = await serving.ask(GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert body_of(answer)["error"]["code"] == "internal_error"
    assert b"secret" not in answer
    assert b"injected" not in answer
    assert len(serving.failures) == 1


async def raise_late(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"part")
    raise ValueError("late")


async def forget_the_end(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"part")


async def abort(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"part")
    exchange.abort()


@pytest.mark.parametrize("handler", [raise_late, forget_the_end, abort])
async def test_a_response_that_fails_midway_never_ends_cleanly(serve, handler):
    """The client sees what was written and then a cut: no final chunk."""
    answer = await (await serve(handler)).ask(GET)
    assert answer.endswith(b"4\r\npart\r\n")


@pytest.mark.parametrize("sent", [b"par", b"part and more"])
async def test_a_response_of_the_wrong_length_never_looks_whole(serve, sent):
    """Fewer or more bytes than the promised content-length end in a cut, and in a report."""

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-length", b"4")])
        await exchange.write(sent)
        await exchange.end()

    serving = await serve(handler)
    answer = await serving.ask(GET)
    assert len(answer.partition(b"\r\n\r\n")[2]) < 4
    assert len(serving.failures) == 1


async def test_http_1_0_gets_no_chunks(serve):
    """An HTTP/1.0 client reads a stream to the end of its connection."""

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.write(b"one")
        await exchange.write(b"two")
        await exchange.end()

    answer = await (await serve(handler)).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nonetwo")
    assert b"chunked" not in answer


async def test_http_1_0_is_reset_when_its_stream_is_cut(serve):
    """Where the close is the end, a cut is a reset: it must not look like the end."""
    client = await (await serve(abort)).connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await client.rest()


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


@pytest.fixture(autouse=True)
async def no_stray_tasks() -> AsyncIterator[None]:
    """Every test leaves no task of the server behind."""
    yield
    for _ in range(20):
        await asyncio.sleep(0)
    stray = [task for task in asyncio.all_tasks() if "ServerConnection" in repr(task)]
    assert stray == []


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
