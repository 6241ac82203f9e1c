"""Server-sent events as bytes (WHATWG HTML, section 9.2), split at any byte.

Most events pass through a node unchanged, so an event keeps the bytes it arrived in.
"""

import re
from typing import NamedTuple

from server.errors import EventTooLarge

MAX_EVENT_BYTES = 1024 * 1024
DONE = b"[DONE]"
DONE_FRAME = b"data: [DONE]\n\n"
PING = b": ping\n\n"

# A line ends in CRLF, LF or CR; a CR before an LF is never a line end of its own.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_BLANK_LINE = 4


class Event(NamedTuple):
    """One event. `raw` ends in its blank line; `data` is None for a comment; `name` is b"" when not given."""

    raw: bytes
    data: bytes | None
    name: bytes


class SseParser:
    """Bytes in as they arrive, whole events out. Raises EventTooLarge beyond `max_event_bytes`."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._buffer = bytearray()
        self._max_event_bytes = max_event_bytes
        self._scanned = 0
        self._ended_in_cr = False

    @property
    def pending(self) -> bool:
        """Whether an event has begun that has not ended: at the end of a stream, it was cut."""
        return bool(self._buffer)

    @property
    def held(self) -> int:
        """Bytes of an event that has begun."""
        return len(self._buffer)

    @property
    def between_events(self) -> bool:
        """Whether the next byte begins an event."""
        return not self._buffer and not self._ended_in_cr

    def feed(self, data: bytes) -> list[Event]:
        self.push(data)
        events = []
        while (event := self.next()) is not None:
            events.append(event)
        return events

    def push(self, data: bytes) -> None:
        """What arrived next; `next` gives the events in it."""
        if self._ended_in_cr and data:
            # The LF of a CRLF whose CR has already ended the event before.
            data = data.removeprefix(b"\n")
            self._ended_in_cr = False
        self._buffer += data

    def next(self) -> Event | None:
        """The next event that is whole."""
        match = _BLANK_LINE.search(self._buffer, self._scanned)
        if match is None:
            self._check_size(len(self._buffer))
            self._scanned = max(0, len(self._buffer) - _LONGEST_BLANK_LINE)
            return None
        start, end = match.span()
        self._check_size(end)
        raw = bytes(self._buffer[:end])
        self._ended_in_cr = raw.endswith(b"\r") and end == len(self._buffer)
        del self._buffer[:end]
        self._scanned = 0
        return _event(raw, start)

    def take_back(self) -> bytes:
        """What was pushed and has not been given as an event, to be read in another way or pushed again."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return rest

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise EventTooLarge(f"an event of the stream is larger than {self._max_event_bytes} bytes")


def frame(data: bytes, name: bytes = b"") -> bytes:
    """One event on the wire; line ends in `data` become several data lines, as the format demands."""
    head = b"event: %b\n" % name if name else b""
    if b"\n" not in data and b"\r" not in data:
        return b"%bdata: %b\n\n" % (head, data)
    return head + b"".join(b"data: %b\n" % line for line in _LINE_END.split(data)) + b"\n"


def _event(raw: bytes, end: int) -> Event:
    if raw.startswith(b"data: ") and raw.find(b"\n", 0, end) < 0 and raw.find(b"\r", 0, end) < 0:
        return Event(raw, raw[6:end], b"")
    data: list[bytes] = []
    name = b""
    for line in _LINE_END.split(raw[:end].removeprefix(b"\xef\xbb\xbf")):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(raw, b"\n".join(data) if data else None, name)
