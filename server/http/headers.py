"""Header fields as they are on the wire: pairs of bytes, names in lower case."""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

RawHeaders = Iterable[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00\r\n]")


class Headers:
    """An immutable multimap in the order of arrival."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: RawHeaders = ()) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]
        self._first = dict(reversed(self._pairs))

    def get(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        value = self._first.get(_key(name))
        return None if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        wanted = _key(name)
        if wanted not in self._first:
            return []
        return [value.decode("latin-1") for key, value in self._pairs if key == wanted]

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._first

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        # Values may be keys: a representation ends up in logs.
        return f"Headers({', '.join(name.decode('latin-1') for name, _ in self._pairs)})"


def encode(pairs: Collection[tuple[bytes, bytes]]) -> bytes:
    """Header lines ready to send.

    Raises ValueError for a name that is no token and for a CR, LF or NUL in a value: either would let
    whoever chose it write headers, or a whole response, of their own.
    """
    for name, _ in pairs:
        if not _is_token(name):
            raise _unsafe(name)
    block = b"".join([b"%b: %b\r\n" % pair for pair in pairs])
    # All values in one look: each line has one CR and one LF, its own.
    count = len(pairs)
    if b"\x00" in block or block.count(b"\n") != count or block.count(b"\r") != count:
        raise _unsafe(next(name for name, value in pairs if _FORBIDDEN_IN_VALUE.search(value)))
    return block


def _unsafe(name: bytes) -> ValueError:
    return ValueError(f"header {name!r} cannot be sent: its name or value breaks the message's framing")


# The names are those that our own code knows: few, and always the same.
@lru_cache(maxsize=256)
def _is_token(name: bytes) -> bool:
    return _TOKEN.fullmatch(name) is not None


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    return name.lower().encode("latin-1")
