"""W3C Trace Context, level 1: the header `traceparent`."""

import re

from server.errors import HeaderList

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

Parent = tuple[int, int, int]
"""Trace id, span id, flags."""


def read(header: str | None) -> Parent | None:
    """None for a header that must be ignored."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    parent = int(trace_id, 16), int(span_id, 16), int(flags, 16)
    return parent if parent[0] and parent[1] else None


def write(trace_id: int, span_id: int, flags: int) -> HeaderList:
    return [(b"traceparent", b"00-%032x-%016x-%02x" % (trace_id, span_id, flags))]


def forwarded(header: str | None) -> HeaderList:
    """A client's header for a node. `tracestate` stays behind: it is free text of the client."""
    parent = read(header)
    return [] if parent is None else write(*parent)
