"""Bytes of a client to requests, with a bound on everything that a parser would hold."""

from typing import NamedTuple, Protocol

import httptools

from server.http.framing import (
    BODY_TOO_LARGE,
    HEADERS_TOO_LARGE,
    Refusal,
    bad_request,
    body_head,
    refuse_head,
)
from server.http.headers import Headers


class RequestHead(NamedTuple):
    """What came before the body."""

    method: str
    path: str
    query: str
    version: str
    headers: Headers
    keep_alive: bool


class Events(Protocol):
    """What a connection is told."""

    def head_begun(self) -> None: ...
    def head_arrived(self, head: RequestHead) -> None: ...
    def body_arrived(self, data: bytes) -> None: ...
    def request_ended(self) -> None: ...
    def refused(self, refusal: Refusal) -> None: ...


class RequestParser:
    """Tells `events` of each request in turn; stops for good at the first that is refused."""

    def __init__(self, events: Events, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self._events = events
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._upgrade_head = b""
        self._head_again = False
        self.begun = False
        self.in_body = False
        self.stopped = False

    def feed(self, data: bytes) -> None:
        """Parse; what follows a refusal is dropped."""
        if self.stopped:
            return
        self._wire_bytes += len(data)
        while data and not self.stopped:
            data = self._feed(data)
        self._check_unfinished()

    def _feed(self, data: bytes) -> bytes:
        """Gives what is to be parsed next."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            return self._as_plain_http(data[exc.args[0] :])
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as exc:
            self._refuse(bad_request(f"malformed request: {exc}"))
        return b""

    def _as_plain_http(self, rest: bytes) -> bytes:
        """We speak no other protocol. Where the request has no body, it is the last one.

        Java's HttpClient offers h2c with every body; httptools then takes the body for the other protocol.
        So it is read again, behind a head that offers nothing.
        """
        if not self.in_body:
            self.stopped = True
            return b""
        self._parser = httptools.HttpRequestParser(self)
        self._head_again = True
        return self._upgrade_head + rest

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.stopped or self._head_again:
            return
        self.begun = True
        self._url = b""
        self._pairs = []
        self._head_bytes = self._body_bytes = 0
        self._events.head_begun()

    def on_url(self, url: bytes) -> None:
        if self._head_again:
            return
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > self._max_header_bytes:
            self._refuse(HEADERS_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_again:
            return
        if self.in_body:
            self._refuse(bad_request("trailers are not accepted; send the fields as headers"))
            return
        self._pairs.append((name, value))
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._max_header_bytes:
            self._refuse(HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        if self.stopped:
            return
        self._wire_bytes = 0
        if self._head_again:
            self._head_again = False
            return
        headers, version = Headers(self._pairs), self._parser.get_http_version()
        refusal = refuse_head(version, headers, self._max_body_bytes)
        if refusal is not None:
            self._refuse(refusal)
            return
        self.in_body = True
        path, query = split_target(self._url)
        method = self._parser.get_method().decode("ascii")
        self._upgrade_head = b""
        if self._parser.should_upgrade() and method != "CONNECT":
            self._upgrade_head = body_head(headers)
        keep_alive = self._parser.should_keep_alive()
        self._events.head_arrived(RequestHead(method, path, query, version, headers, keep_alive))

    def on_body(self, body: bytes) -> None:
        if self.stopped:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self._refuse(BODY_TOO_LARGE)
            return
        self._events.body_arrived(body)

    def on_message_complete(self) -> None:
        if self.stopped:
            return
        if self._upgrade_head and self._parser.should_upgrade():
            # Said too early: its body comes next.
            return
        self.begun = self.in_body = False
        self._wire_bytes = 0
        self._events.request_ended()

    # Bounds

    def _check_unfinished(self) -> None:
        """Bound what httptools holds without telling: a header line or a chunk extension that never ends."""
        if not self.in_body and self._wire_bytes > self._max_header_bytes:
            self._refuse(HEADERS_TOO_LARGE)
        # The smallest chunk spends 5 bytes on framing one of body.
        elif self.in_body and self._wire_bytes - 8 * self._body_bytes > self._max_header_bytes:
            self._refuse(bad_request("the body's chunks are mostly padding; send larger chunks"))

    def _refuse(self, refusal: Refusal) -> None:
        if not self.stopped:
            self.stopped = True
            self._events.refused(refusal)


def split_target(url: bytes) -> tuple[str, str]:
    """Path and query of a request target; the absolute form also names a host, which nobody asked for."""
    if not url.startswith(b"/"):
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1"), ""
        return (parsed.path or b"/").decode("latin-1"), (parsed.query or b"").decode("latin-1")
    path, _, query = url.partition(b"?")
    return path.decode("latin-1"), query.decode("latin-1")
