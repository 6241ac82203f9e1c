"""Requests read as strictly as RFC 9112 allows: what a server may serve at most."""

import re
from typing import NamedTuple

# RFC 9112, 2.2 and 3: empty lines before a request, and more than one space, MAY be passed over.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) +([!-~]+) +HTTP/(1\.[01])")
_FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*"
)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16}|0+[0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~\x80-\xff]*)?")


class Seen(NamedTuple):
    """One request: what must not be read in two ways."""

    method: str
    target: str
    body: bytes


class Unclear(Exception):
    """Some reader could see this otherwise."""


def requests_in(data: bytes) -> list[Seen]:
    """Those that are whole and clear, up to the first that is not."""
    found: list[Seen] = []
    try:
        while (read := _request(data)) is not None:
            seen, data = read
            found.append(seen)
    except Unclear:
        return found
    return found


def _request(data: bytes) -> tuple[Seen, bytes] | None:
    data = data.lstrip(b"\r\n")
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise Unclear(first)
    fields: list[tuple[bytes, bytes]] = []
    for text in lines:
        field = _FIELD.fullmatch(text)
        if field is None:
            raise Unclear(text)
        fields.append((field[1].lower(), field[2]))
    read = _body(_all(fields, b"content-length"), _all(fields, b"transfer-encoding"), line[3], rest)
    if read is None:
        return None
    if len(_all(fields, b"host")) > 1:
        raise Unclear(b"host")
    body, rest = read
    return Seen(line[1].decode(), line[2].decode(), body), rest


def _all(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for found, value in fields if found == name]


def _body(
    lengths: list[bytes], codings: list[bytes], version: bytes, data: bytes
) -> tuple[bytes, bytes] | None:
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"] or version == b"1.0":
            raise Unclear(b"coding")
        return _chunks(data)
    if len(lengths) > 1 or any(not length.isdigit() for length in lengths):
        raise Unclear(b"length")
    # Python reads at most 4300 digits; leading zeros say nothing.
    size = int(lengths[0].lstrip(b"0")[:20] or b"0") if lengths else 0
    return (data[:size], data[size:]) if len(data) >= size else None


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return None
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Unclear(line)
        length = int(size[1], 16)
        if len(rest) < length + 2:
            return None
        if rest[length : length + 2] != b"\r\n":
            raise Unclear(rest[:2])
        body, data = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, data
