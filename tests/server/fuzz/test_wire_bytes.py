"""Bytes that are nearly HTTP, or not at all, on the serving port."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import h11

from server.http.parser import RequestHead, RequestParser
from tests.server.fuzz.cases import damage, each, pieces
from tests.server.fuzz.conftest import Port, check_refusal, responses_in
from tests.server.fuzz.reference_http import Seen, requests_in

CHAT = b'{"messages":[{"role":"user","content":"x"}],"max_tokens":3}'
JSON = b"Host: a\r\nContent-Type: application/json\r\n"
SEEDS = [
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n",
    b"GET http://b/ready?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"HEAD /ready HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (JSON, len(CHAT), CHAT),
    b"POST / HTTP/1.1\r\n%bContent-Length: 14\r\n\r\n{\"inputs\":\"x\"}" % JSON,
    b"POST /v1/completions HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n"
    b'e\r\n{"prompt":"x",\r\n10;a="b"\r\n"max_tokens":3  \r\n1\r\n}\r\n0\r\n\r\n' % JSON,
    b"POST /v1/completions HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 14\r\n\r\n"
    b'{"prompt":"x"}' % JSON,
    b"POST /generate_stream HTTP/1.1\r\n%bUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 14\r\n\r\n"
    b'{"inputs":"x"}' % JSON,
]  # fmt: skip
PARTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\x0b",
    b"\x80",
    b"\r\n ",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 00000000000000000000000000000005\r\n",
    b"Content-Length: %b5\r\n" % (b"0" * 5000),
    b"Content-Length: 18446744073709551617\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"content-length:\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: CHUNKED \r\n",
    b"Transfer\xc4\xb1-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, x\r\n",
    b'X-Request-Id: "><script>\r\n',
    b"X-Request-Timeout-Ms: 99999999999999999999\r\n",
    b"X-Goldenfleet-Priority: highest\r\n",
    b"traceparent: 00-%b-%b-01\r\n" % (b"a" * 32, b"b" * 16),
    b"X: %b\r\n" % (b"a" * 40_000),
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"1;\r\n",
]


def packets(rng: Random) -> bytes:
    """One to three requests in a row, most of them damaged."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(200))
    data = b"".join(rng.choices(SEEDS, k=rng.randint(1, 3)))
    return data if rng.random() < 0.1 else damage(rng, data, PARTS)


async def test_any_bytes_are_answered_or_closed(
    stage: Any, port: Callable[[Any], Awaitable[Port]], until: Any
) -> None:
    """Whatever arrives, in whatever pieces: answers in the envelope, never 500, and the connection ends."""
    target = await port(await stage.gateway((await stage.engine()).address))

    async def check(rng: Random) -> None:
        sent = packets(rng)
        got = await target.exchange(pieces(rng, sent), shut=rng.random() < 0.2)
        got = got.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        # A response to HEAD ends at its head, which a reader that does not know the question cannot tell.
        if b"HEAD" in sent.upper():
            assert b"HTTP/1.1 500 " not in got
            return
        for status, headers, body in responses_in(got, asked=400):
            check_refusal(status, headers, body, tgi=b'"error_type"' in body)

    await each("bytes", 700, check)
    await until(lambda: target.server.connections == 0)


class Served:
    """What our parser would serve."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._head: RequestHead | None = None
        self._body = b""
        self.parser = RequestParser(self, max_header_bytes=1 << 20, max_body_bytes=1 << 20)

    def head_begun(self) -> None:
        self._head = None

    def head_arrived(self, head: RequestHead) -> None:
        self._head, self._body = head, b""

    def body_arrived(self, data: bytes) -> None:
        self._body += data

    def request_ended(self) -> None:
        assert self._head is not None
        query = f"?{self._head.query}" if self._head.query else ""
        self.requests.append(Seen(self._head.method, self._head.path + query, self._body))

    def refused(self, refusal: object) -> None:
        """Nothing more is served."""


def ours(sent: list[bytes]) -> list[Seen]:
    served = Served()
    for piece in sent:
        served.parser.feed(piece)
    return served.requests


def h11_sees(data: bytes) -> tuple[list[Seen], bool]:
    """The requests that h11 sees, and whether it refused what came after them."""
    found: list[Seen] = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data)
        head, body = None, b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return found, False
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
        except h11.RemoteProtocolError:
            return found, True
        assert head is not None
        found.append(Seen(head.method.decode(), head.target.decode(), body))
        data = connection.trailing_data[0]
    return found, False


def alike(ours: list[Seen], theirs: list[Seen]) -> bool:
    """Only paths are routed by: neither the absolute form nor an empty query need match. CONNECT's body means
    nothing.
    """
    return all(
        one.method == other.method
        and (one.body == other.body or one.method == "CONNECT")
        and (
            one.target.removesuffix("?") == other.target.removesuffix("?") or not other.target.startswith("/")
        )
        for one, other in zip(ours, theirs, strict=True)
    )


async def test_what_is_served_is_what_a_strict_reader_sees() -> None:
    """Each request that we serve has the method, target and body of RFC 9112's strictest reading."""

    async def check(rng: Random) -> None:
        sent = packets(rng)
        served, strict = ours(pieces(rng, sent)), requests_in(sent)
        # Who answers CONNECT with a refusal, and closes, need not wait for its body.
        assert len(served) <= len(strict) or served[len(strict)].method == "CONNECT", sent
        both = min(len(served), len(strict))
        assert alike(served[:both], strict[:both]), sent

    await each("strict", 6000, check)


async def test_no_other_parser_sees_another_request() -> None:
    """What we serve, h11 sees alike or refuses: no proxy with such a parser can be made to disagree."""

    async def check(rng: Random) -> None:
        sent = packets(rng)
        served, (seen, refused) = ours(pieces(rng, sent)), h11_sees(sent)
        both = min(len(served), len(seen))
        assert alike(served[:both], seen[:both]), sent
        # h11 waits for a body of CONNECT; we refuse the request and close.
        assert refused or len(served) <= len(seen) or b"CONNECT" in sent, sent

    await each("h11", 3000, check)


async def test_pieces_make_no_difference() -> None:
    """What is served does not depend on how the bytes were cut into packets."""

    async def check(rng: Random) -> None:
        sent = packets(rng)
        assert ours(pieces(rng, sent, most=40)) == ours([sent]), sent

    await each("pieces", 3000, check)
