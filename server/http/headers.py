"""Header fields as they are on the wire: pairs of bytes, names in lower case."""

import re
from collections.abc import Iterable, Iterator

RawHeaders = Iterable[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00\r\n]")


class Headers:
    """An immutable multimap in the order of arrival."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: RawHeaders = ()) -> None:
        self._pairs = tuple((name.lower(), value) for name, value in pairs)

    def get(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        wanted = name.lower().encode("latin-1")
        for key, value in self._pairs:
            if key == wanted:
                return value.decode("latin-1")
        return None

    def get_all(self, name: str) -> list[str]:
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self._pairs if key == wanted]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        # Values may be keys: a representation ends up in logs.
        return f"Headers({', '.join(name.decode('latin-1') for name, _ in self._pairs)})"


def encode(pairs: RawHeaders) -> bytes:
    """Header lines ready to send.

    Raises ValueError for a name that is no token and for a CR, LF or NUL in a value: either would let
    whoever chose it write headers, or a whole response, of their own.
    """
    lines = []
    for name, value in pairs:
        if not _TOKEN.fullmatch(name) or _FORBIDDEN_IN_VALUE.search(value):
            raise ValueError(
                f"header {name!r} cannot be sent: its name or value breaks the message's framing"
            )
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)
