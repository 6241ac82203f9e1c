"""What a client may not send, how long it may take, and how much: each line is a way in."""

import asyncio
import json
import re

import pytest

from server.http.server import Exchange

HOST = b"Host: a\r\n"
POST = b"POST /e HTTP/1.1\r\n" + HOST
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

AMBIGUOUS = {
    "length and chunked": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two different lengths": POST + b"Content-Length: 2\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal lengths": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "list of lengths": POST + b"Content-Length: 4, 4\r\n\r\nabcd",
    "signed length": POST + b"Content-Length: +4\r\n\r\nabcd",
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET /e HTTP/1.1\nHost: a\n\n",
    "bare LF after a header": b"GET /e HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF at the end": b"GET /e HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a value": b"GET /e HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    "bare LF after a chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    "bare LF in a chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n1;a=\n\r\na\r\n0\r\n\r\n",
    "negative chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
    "chunk longer than its size": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: b\r\n\r\n",
    "folded header": b"GET /e HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "two Hosts": b"GET /e HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no Host": b"GET /e HTTP/1.1\r\n\r\n",
    "NUL in a value": b"GET /e HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET /e HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
    "control character": b"GET /e HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
    "non-ASCII target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "unknown version": b"GET / HTTP/1.7\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no method": b"  / HTTP/1.1\r\nHost: a\r\n\r\n",
}


async def swallow(exchange: Exchange) -> None:
    await exchange.request.body(1 << 20)
    await exchange.respond(200, [], exchange.request.path.encode())


def error_of(answer: bytes) -> dict[str, object]:
    error: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return error


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_ambiguous_framing_is_refused_and_nothing_is_smuggled(serve, case):
    """400 with the error envelope, the connection closed, and what follows never served."""
    answer = await (await serve(swallow)).ask(AMBIGUOUS[case] + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"}HTTP/1.1 " not in answer
    assert b"connection: close\r\n" in answer
    assert re.search(rb"\r\nx-request-id: req_[0-9a-f]{24}\r\n", answer)
    assert set(error_of(answer)) == {"message", "type", "param", "code"}
    assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_ambiguous_framing_is_refused_byte_by_byte_too(serve, case):
    """The same refusal however the bytes are cut into packets."""
    client = await (await serve(swallow)).connect()
    for byte in AMBIGUOUS[case]:
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_good_request_is_answered_before_a_bad_one_behind_it(serve):
    """Pipelined: the first is served, the second closes the connection."""
    answer = await (await serve(swallow)).ask(
        b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n" + AMBIGUOUS["two Hosts"]
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"/good" in answer


OVERSIZED = {
    "one long value": [b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 33_000 + b"\r\n\r\n"],
    "many headers": [b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: aaaaaaaaaa\r\n" * 2500, b"\r\n"],
    "a value without end": [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", *[b"a" * 1000] * 40],
    "a name without end": [b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"a" * 1000] * 40],
    "a long target": [b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"],
    "a target without end": [b"GET /", *[b"a" * 1000] * 40],
    "on a used connection": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX: ", *[b"a" * 1000] * 40],
}


@pytest.mark.parametrize("case", OVERSIZED)
async def test_headers_over_the_cap_are_431(serve, case):
    """More than 32 KiB of headers, whole or endless, is 431 and closed."""
    client = await (await serve(swallow)).connect()
    for piece in OVERSIZED[case]:
        client.send(piece)
        await asyncio.sleep(0)
    answer = await client.rest()
    last = answer[answer.rindex(b"HTTP/1.1 ") :]
    assert last.startswith(b"HTTP/1.1 431 ")
    assert error_of(last)["code"] == "headers_too_large"


async def test_headers_just_under_the_cap_are_served(serve):
    """The cap does not bite early."""
    answer = await (await serve(swallow)).ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: " + b"a" * 32_000 + b"\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 101\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"a" * 101],
    ids=["declared", "chunked"],
)
async def test_a_body_over_the_cap_is_413(serve, framing):
    """A body over the server's cap is refused as soon as that is known, and its handler stopped."""
    answer = await (await serve(swallow, max_body_bytes=100)).ask(POST + framing)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert error_of(answer)["code"] == "body_too_large"


async def test_chunks_of_padding_are_refused(serve):
    """A chunk extension that never ends does not fill the memory."""
    client = await (await serve(swallow)).connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1;")
    for _ in range(40):
        client.send(b"a" * 1000)
        await asyncio.sleep(0)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_headers_that_do_not_come_close_the_connection(serve, sent):
    """After the header deadline a connection without a whole head is closed without an answer."""
    client = await (await serve(swallow, header_deadline_s=0.1)).connect()
    client.send(sent)
    assert await client.rest() == b""


async def test_a_dripping_client_does_not_move_the_header_deadline(serve):
    """A byte now and then buys no time."""
    client = await (await serve(swallow, header_deadline_s=0.2)).connect()
    reading = asyncio.create_task(client.rest())
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    while not reading.done():
        client.send(b"a")
        await asyncio.sleep(0)
    assert (await reading).startswith((b"", b"HTTP/1.1 431"))


async def test_a_body_that_does_not_come_is_408(serve):
    """After the body deadline the handler is cancelled and the client told."""
    cancelled = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        try:
            await swallow(exchange)
        finally:
            cancelled.set()

    answer = await (await serve(handler, body_deadline_s=0.1)).ask(POST + b"Content-Length: 5\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert cancelled.is_set()


async def test_an_idle_connection_is_closed_after_its_keep_alive(serve):
    """A connection that asks nothing more is closed, not at the header deadline but at its own."""
    serving = await serve(swallow, keep_alive_s=0.1, header_deadline_s=10)
    client = await serving.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" not in answer


async def test_a_long_answer_outlives_the_deadlines_of_its_request(serve):
    """Deadlines for receiving do not touch a response under way."""
    later = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await later.wait()
        await exchange.write(b"late")
        await exchange.end()

    limits = {"header_deadline_s": 0.05, "body_deadline_s": 0.05, "keep_alive_s": 0.05}
    client = await (await serve(handler, **limits)).connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    asyncio.get_running_loop().call_later(0.3, later.set)
    assert (await client.rest()).startswith(b"4\r\nlate\r\n0\r\n\r\n")
