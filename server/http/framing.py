"""Pure decisions about where messages begin and end, on both sides."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from server.http.headers import Headers, encode

BODYLESS_STATUSES = frozenset({204, 304})
_TARGET = re.compile(r"[!-~]+")
# More than any length needs, and far fewer than `int` takes.
_MAX_LENGTH_DIGITS = 20
_FRAMING = frozenset((b"transfer-encoding", b"connection", b"content-length"))
_POOLS_OWN = frozenset(
    (b"content-length", b"transfer-encoding", b"connection", b"host", b"keep-alive", b"upgrade", b"expect")
)

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True)
class Refusal:
    """An answer of the HTTP layer itself; the connection is closed after it."""

    status: int
    code: str
    message: str

    def body(self) -> bytes:
        return envelope(self.status, self.code, self.message)


HEADERS_TOO_LARGE = Refusal(
    431, "headers_too_large", "the request's headers are too large; send fewer or shorter"
)
BODY_TOO_LARGE = Refusal(413, "body_too_large", "the request's body is too large; send a smaller one")
BODY_TOO_SLOW = Refusal(408, "body_timeout", "the request's body did not arrive in time; send it again")
TOO_MANY_CONNECTIONS = Refusal(
    503, "too_many_connections", "the server has as many connections as it may; try again on another"
)
HANDLER_FAILED = Refusal(500, "internal_error", "the server failed to answer; try again")


def bad_request(message: str) -> Refusal:
    return Refusal(400, "bad_request", message)


def envelope(status: int, code: str, message: str) -> bytes:
    """The OpenAI error envelope (reference: error format of the OpenAI API)."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def refuse_head(version: str, headers: Headers, max_body_bytes: int) -> Refusal | None:
    """Why a request head that the parser let pass is still not safe to serve, or None.

    The parser already refuses bare LF, control characters, `name :`, two lengths, and a length with a
    transfer coding. It lets pass two Host headers, codings before `chunked`, and chunked in HTTP/1.0:
    each is read differently by some other proxy, which is what request smuggling lives on.
    """
    hosts = headers.get_all("host")
    if len(hosts) > 1:
        return bad_request("more than one Host header; send exactly one")
    if not hosts and version == "1.1":
        return bad_request("no Host header; HTTP/1.1 needs one")
    if version not in ("1.0", "1.1"):
        return bad_request("unsupported HTTP version; use HTTP/1.1")
    length = headers.get("content-length")
    if length and len(length) > _MAX_LENGTH_DIGITS:
        return bad_request("Content-Length has too many digits; send it without leading zeros")
    if length and int(length) > max_body_bytes:
        return BODY_TOO_LARGE
    return _refuse_coding(version, headers)


def _refuse_coding(version: str, headers: Headers) -> Refusal | None:
    codings = headers.get_all("transfer-encoding")
    if not codings:
        return None
    if version == "1.0":
        return bad_request("Transfer-Encoding in HTTP/1.0; use HTTP/1.1")
    if [coding.strip().lower() for coding in codings] != ["chunked"]:
        return bad_request("unsupported Transfer-Encoding; only chunked is")
    return None


def body_head(headers: Headers) -> bytes:
    """A head that frames the same body as `headers`, which were not refused; b"" where there is none."""
    if "transfer-encoding" in headers:
        return b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    length = int(headers.get("content-length") or 0)
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length if length else b""


class ResponseHead(NamedTuple):
    """A response's head on the wire, and how its body is delimited."""

    wire: bytes
    content_length: int | None
    chunked: bool
    has_body: bool
    keep_alive: bool


def response_head(
    status: int,
    pairs: Iterable[tuple[bytes, bytes]],
    *,
    method: str,
    version: str,
    keep_alive: bool,
    date: bytes,
) -> ResponseHead:
    """Frame a response: by its content-length if it has one, else chunked, else (HTTP/1.0) by closing.

    Raises ValueError for an unknown status, a transfer-encoding, or headers that would split the response.
    """
    kept, length, closes = _own_fields(status, pairs)
    keep_alive = keep_alive and not closes
    has_body = method != "HEAD" and status not in BODYLESS_STATUSES
    chunked = length is None and has_body and version == "1.1"
    keep_alive = keep_alive and (chunked or length is not None or not has_body)
    if chunked:
        kept.append((b"transfer-encoding", b"chunked"))
    if not keep_alive:
        kept.append((b"connection", b"close"))
    elif version == "1.0":
        kept.append((b"connection", b"keep-alive"))
    kept.append((b"date", date))
    line = _STATUS_LINES.get(status)
    if line is None:
        raise ValueError(f"{status} is no HTTP status")
    return ResponseHead(line + encode(kept) + b"\r\n", length, chunked, has_body, keep_alive)


def _own_fields(
    status: int, pairs: Iterable[tuple[bytes, bytes]]
) -> tuple[list[tuple[bytes, bytes]], int | None, bool]:
    """A response's fields without `connection`, its content-length, and whether `connection` says close."""
    kept: list[tuple[bytes, bytes]] = []
    length: int | None = None
    closes = False
    for pair in pairs:
        name, value = pair
        lowered = name.lower()
        if lowered not in _FRAMING:
            kept.append(pair if name == lowered else (lowered, value))
            continue
        if lowered == b"transfer-encoding":
            raise ValueError("transfer-encoding is the server's own; do not set it")
        if lowered == b"connection":
            closes = closes or value.strip().lower() == b"close"
            continue
        if lowered == b"content-length":
            if length is not None or not value.isdigit():
                raise ValueError("a response has one content-length, in digits")
            length = int(value)
            if status != 204:
                kept.append((lowered, value))
    return kept, length, closes


def request_head(
    method: str, target: str, pairs: Iterable[tuple[bytes, bytes]], host: str, body: bytes
) -> bytes:
    """A request's head on the wire; a caller's own framing and connection headers are dropped.

    Raises ValueError for a method, target or header that would split the request.
    """
    kept = [pair for pair in pairs if pair[0].lower() not in _POOLS_OWN]
    if body or method not in ("GET", "HEAD"):
        kept.append((b"content-length", b"%d" % len(body)))
    return b"%b%b\r\n" % (_request_line(method, target, host), encode(kept))


# A gateway asks few nodes for few targets, again and again.
@lru_cache(maxsize=4096)
def _request_line(method: str, target: str, host: str) -> bytes:
    """The first line, and the Host header (RFC 9112 3.2 wants it first)."""
    if not (method.isascii() and method.isalpha() and _TARGET.fullmatch(target)):
        raise ValueError("the request's method or target cannot be sent: it breaks the message's framing")
    line = b"%b %b HTTP/1.1\r\n" % (method.encode(), target.encode())
    return line + encode([(b"host", host.encode("ascii"))])
