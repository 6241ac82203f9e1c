"""Server-sent events out of bytes that may be split anywhere, also inside a character or a line ending."""

from __future__ import annotations

from collections.abc import Iterator

# The first event tells a prompt's token ids, some 7 bytes each; a stream of no events must not fill memory.
_LONGEST_EVENT = 16 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseDecoder:
    """Feed bytes, get the `data` of each event they complete; comments and other fields are dropped.

    `junk` says what was no event stream, once something was not; nothing after it is read.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[str] = []
        self._held = 0
        self._begun = False
        self._after_cr = False
        self.junk: str | None = None

    def feed(self, piece: bytes) -> Iterator[str]:
        self._held += len(piece)
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        self._after_cr = piece.endswith(b"\r")
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._rest += piece
        if b"\n" in piece:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                if self.junk is None:
                    yield from self._line(bytes(line))
        if self._held > _LONGEST_EVENT:
            self.junk = f"an event of the stream is longer than {_LONGEST_EVENT} bytes"

    def _line(self, line: bytes) -> Iterator[str]:
        if not self._begun:
            line, self._begun = line.removeprefix(_BYTE_ORDER_MARK), True
        if not line:
            data, self._data, self._held = self._data, [], 0
            if data:
                yield "\n".join(data)
        elif line.startswith(b"data:"):
            self._take(line[5:].removeprefix(b" "))
        elif not line.startswith((b":", b"event:", b"id:", b"retry:")):
            self.junk = f"not a line of an event stream: {line[:60]!r}"

    def _take(self, raw: bytes) -> None:
        try:
            self._data.append(raw.decode())
        except UnicodeDecodeError:
            self.junk = "the stream holds bytes that are not UTF-8"
