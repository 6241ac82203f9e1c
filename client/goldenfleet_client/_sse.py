"""Server-sent events out of bytes that may be split anywhere, also inside a character or a line ending."""

from __future__ import annotations

from collections.abc import Iterator

_LONGEST_LINE = 4 * 1024 * 1024  # far above any chunk; a stream without line ends must not fill memory


class SseDecoder:
    """Feed bytes, get the `data` of each event they complete; comments and other fields are dropped.

    `junk` says what was no event stream, once something was not; nothing after it is read.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self.junk: str | None = None

    def feed(self, piece: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if self.junk is None:
                yield from self._line(line.removesuffix(b"\r"))
        if len(self._rest) > _LONGEST_LINE:
            self.junk = f"a line of the stream is longer than {_LONGEST_LINE} bytes"

    def _line(self, line: bytes) -> Iterator[str]:
        if not line and self._data:
            data, self._data = "\n".join(self._data), []
            yield data
        elif line.startswith(b"data:"):
            self._take(line[5:].removeprefix(b" "))
        elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
            self.junk = f"not a line of an event stream: {line[:60]!r}"

    def _take(self, raw: bytes) -> None:
        try:
            self._data.append(raw.decode())
        except UnicodeDecodeError:
            self.junk = "the stream holds bytes that are not UTF-8"
