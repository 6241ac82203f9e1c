"""Requests that begin alike go to the same node, whose KV cache holds that beginning: consistent hashing.

Every gateway puts the same nodes on the same ring, whatever its process, so all agree without a word. With
bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016): a node that has more than its share of what runs
is passed over for the next on the ring, so that one popular prompt cannot sink one node.
"""

import math
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

# A node's points on the ring: at 64 of them the shares of the nodes differ by some 12%.
POINTS = 64
# A node may have this many times its fair share of the requests under way...
LOAD_FACTOR = 1.25
# ...and this many in any case: continuous batching makes a few together cost little more than one.
LOAD_MIN = 4


def key_of(body: Mapping[str, Any], characters: int) -> int | None:
    """Where a request belongs on the ring; None when its prompt is shorter than `characters`."""
    prefix = _prefix(body, characters)
    return None if prefix is None else _point(prefix)


def load_limit(in_flight: int, nodes: int) -> int:
    """How many requests one of `nodes` may have and get another, with `in_flight` on all of them."""
    return max(LOAD_MIN, math.ceil(LOAD_FACTOR * (in_flight + 1) / max(1, nodes)))


class Ring(Generic[Item]):
    """Items on a ring of 2**64 points, by their names."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        placed = sorted(
            (_point(f"{name}#{number}".encode()), name) for name in items for number in range(POINTS)
        )
        self._points = [point for point, _ in placed]
        self._items = [items[name] for _, name in placed]

    def walk(self, key: int) -> Iterator[Item]:
        """Each item once, from where `key` is."""
        seen: set[Item] = set()
        start = bisect_right(self._points, key)
        for at in range(start, start + len(self._items)):
            item = self._items[at % len(self._items)]
            if item not in seen:
                seen.add(item)
                yield item


def _point(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big")


def _prefix(body: Mapping[str, Any], characters: int) -> bytes | None:
    """The beginning of what the engine will read: messages in order, or the prompt's text or tokens."""
    messages = body.get("messages")
    if isinstance(messages, list):
        return _cut("".join(_texts(messages, characters)), characters)
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return _cut(prompt, characters)
    # A token is some four characters.
    tokens = prompt[: characters // 4] if isinstance(prompt, list) else []
    return repr(tokens).encode() if 0 < len(tokens) == characters // 4 else None


def _cut(text: str, characters: int) -> bytes | None:
    return text[:characters].encode("utf-8", "surrogatepass") if len(text) >= characters else None


def _texts(messages: list[Any], characters: int) -> Iterator[str]:
    left = characters
    for message in messages:
        for text in _parts(message):
            yield text[:left]
            left -= len(text)
            if left <= 0:
                return


def _parts(message: object) -> Iterator[str]:
    """A message's role and text; what else it may hold is not compared."""
    if not isinstance(message, dict):
        return
    yield f"\0{message.get('role')}\0"
    content = message.get("content")
    for part in content if isinstance(content, list) else [{"text": content}]:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            yield text
