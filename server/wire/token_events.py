"""Events of one stream that differ in their text and token ids alone, recognised without parsing JSON.

Nearly every event of a generation is the one before it with other text. What they have in common is learned
from one that was parsed, whatever its engine's key order and spacing, and is proven: with another text and
other ids put in its place the event parses to the same chunk with that text and those ids. JSON's grammar
then makes it so for every text and all ids. Bytes that are not exactly such an event are not recognised.
"""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from server.wire.jsonbody import Json
from server.wire.openai import Kind

# What a string of JSON holds between its quotes, and what an array of token ids between its brackets.
# Groups are repeated inside atomic ones, never possessively: Python before 3.11.5 does not go back where such
# a repeat fails half-way (https://github.com/python/cpython/issues/106052).
_TEXT = rb'(?>(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))+)'
_ID = rb"(?:0|[1-9][0-9]{0,9}+)"
_IDS = _ID + rb"(?>(?:, ?" + _ID + rb")*)"
_TEXT_FIELD: dict[Kind, re.Pattern[bytes]] = {
    "chat": re.compile(rb'"content"\s*+:\s*+"(?P<text>' + _TEXT + rb')"'),
    "completions": re.compile(rb'"text"\s*+:\s*+"(?P<text>' + _TEXT + rb')"'),
}
_IDS_FIELD = re.compile(rb'"token_ids"\s*+:\s*+\[(?P<ids>' + _IDS + rb")\]")

# Stands between two events once what they have in common is taken out; JSON never holds it as it is.
_MARK = b"\x1e"
_LARGEST_LEARNED = 16 * 1024

_OTHER_TEXT = "goldenfleet's other text"
_OTHER_IDS = [9876501234, 9876501235]
_OTHER_TEXT_JSON = _OTHER_TEXT.encode()
_OTHER_IDS_JSON = b"9876501234,9876501235"


class Gist(NamedTuple):
    """What some events add together; `ids` is None where their engine gives none."""

    text: str
    ids: list[int] | None
    events: int


class _Shape(NamedTuple):
    """How text and ids follow one another, between what is the same in every event of every stream."""

    one: re.Pattern[bytes]
    run: re.Pattern[bytes]
    texts: re.Pattern[bytes]
    pairs: re.Pattern[bytes]


class TokenEvents:
    """The token events of one stream: `head` text `middle` ids `tail`, and the same for the client.

    Without ids `middle` is None. `out_middle` is None where the client is sent no ids.
    """

    __slots__ = (
        "_joint",
        "_out_head",
        "_out_joint",
        "_out_middle",
        "_out_tail",
        "_seam",
        "_shape",
        "head",
        "tail",
    )

    def __init__(
        self,
        incoming: tuple[bytes, bytes | None, bytes],
        outgoing: tuple[bytes, bytes | None, bytes],
    ) -> None:
        self.head, middle, self.tail = incoming
        self._out_head, self._out_middle, self._out_tail = outgoing
        self._shape = _shape(middle)
        self._joint = self.tail + self.head
        self._seam = len(self._joint) - len(_MARK)
        self._out_joint = self._out_tail + self._out_head

    def take(self, data: bytes) -> tuple[bytes, bytes, bytes, int] | None:
        """The token events that `data`, which begins where an event does, begins with; None if it does not.

        Gives what the client is sent for them, what `gist` reads, what is left of `data`, and their number.
        """
        head, tail = self.head, self.tail
        if not data.startswith(head):
            return None
        if data.endswith(tail):
            one = self._shape.one.fullmatch(data, len(head), len(data) - len(tail))
            if one is not None:
                inner = one[0]
                if not inner.isascii() and not _is_utf8(inner):
                    return None
                if self._out_middle is None:
                    out = b"%b%b%b" % (self._out_head, one[1], self._out_tail)
                else:
                    out = b"%b%b%b%b%b" % (self._out_head, one[1], self._out_middle, one[2], self._out_tail)
                return out, inner + _MARK, b"", 1
        return self._take_run(data)

    def gist(self, taken: bytes | bytearray, *, apart: bool) -> list[Gist]:
        """What was taken, read: `apart`, event by event, or all together."""
        if self._shape.pairs.groups == 1:
            texts, numbers = self._shape.texts.findall(taken), None
        else:
            pairs = self._shape.pairs.findall(taken)
            texts, numbers = [text for text, _ in pairs], [ids for _, ids in pairs]
        if not apart:
            return [_gist(texts, numbers)]
        each = [[ids] for ids in numbers] if numbers is not None else [None] * len(texts)
        return [_gist([text], ids) for text, ids in zip(texts, each, strict=True)]

    def _take_run(self, data: bytes) -> tuple[bytes, bytes, bytes, int] | None:
        end = data.rfind(self.tail, len(self.head))
        if end < 0 or _MARK in data:
            return None
        inner = data[len(self.head) : end].replace(self._joint, _MARK) + _MARK
        run = self._shape.run.match(inner)
        if run is None or not run.end():
            return None
        taken = inner if run.end() == len(inner) else inner[: run.end()]
        if not taken.isascii() and not _is_utf8(taken):
            return None
        if self._out_middle is None:
            texts = self._shape.texts.findall(taken)
            count = len(texts)
            out = self._out_head + self._out_joint.join(texts) + self._out_tail
        else:
            pairs = self._shape.pairs.findall(taken)
            count = len(pairs)
            joined = self._out_joint.join([b"%b%b%b" % (text, self._out_middle, ids) for text, ids in pairs])
            out = self._out_head + joined + self._out_tail
        return out, taken, data[len(taken) + count * self._seam :], count


def learn(
    raw: bytes, kind: Kind, render: Callable[[Json, str, list[int] | None], bytes]
) -> TokenEvents | None:
    """What the token event `raw`, whose chunk has one choice, has in common with those like it.

    `render` gives the client's event for a chunk, the text and the ids in it. None where anything is unsure.
    """
    incoming = _cut(raw, kind)
    if incoming is None:
        return None
    head, middle, tail = incoming
    other_ids = None if middle is None else _OTHER_IDS
    other = head + _OTHER_TEXT_JSON + (b"" if middle is None else middle + _OTHER_IDS_JSON) + tail
    expected = _with(_parsed(raw), kind, other_ids)
    if expected is None or _parsed(other) != expected:
        return None
    outgoing = _cut_rendered(render(expected, _OTHER_TEXT, other_ids))
    if outgoing is None or (outgoing[1] is not None and middle is None):
        return None
    return TokenEvents(incoming, outgoing)


def _gist(texts: list[bytes], ids: list[bytes] | None) -> Gist:
    text = json.loads(b'"%b"' % b"".join(texts))
    return Gist(text, None if ids is None else json.loads(b"[%b]" % b",".join(ids)), len(texts))


def _cut(raw: bytes, kind: Kind) -> tuple[bytes, bytes | None, bytes] | None:
    """The event around its text and its ids, where there is one of each, in that order."""
    if len(raw) > _LARGEST_LEARNED or not raw.startswith(b"data:") or not raw.endswith(b"\n\n"):
        return None
    if raw.count(b"\n") != 2 or b"\r" in raw or _MARK in raw or _OTHER_TEXT_JSON in raw:
        return None
    texts = list(_TEXT_FIELD[kind].finditer(raw))
    ids = list(_IDS_FIELD.finditer(raw))
    if len(texts) != 1 or len(ids) > 1:
        return None
    start, end = texts[0].span("text")
    if not ids:
        return raw[:start], None, raw[end:]
    first, last = ids[0].span("ids")
    return (raw[:start], raw[end:first], raw[last:]) if end < first else None


def _with(chunk: Json, kind: Kind, ids: list[int] | None) -> Json | None:
    """The chunk with the other text and ids in its only choice, None if they are not just there."""
    choice: Json = chunk["choices"][0]
    if len(chunk["choices"]) > 1 or isinstance(choice.get("token_ids"), list) is not (ids is not None):
        return None
    if kind == "chat":
        changed = choice | {"delta": choice["delta"] | {"content": _OTHER_TEXT}}
    else:
        changed = choice | {"text": _OTHER_TEXT}
    if ids is not None:
        changed["token_ids"] = ids
    return chunk | {"choices": [changed]}


def _parsed(event: bytes) -> Any:
    try:
        return json.loads(event.removeprefix(b"data:"))
    except (ValueError, RecursionError):
        return None


def _cut_rendered(out: bytes) -> tuple[bytes, bytes | None, bytes] | None:
    parts = out.split(_OTHER_TEXT_JSON)
    if len(parts) != 2:
        return None
    head, rest = parts
    cut = rest.split(_OTHER_IDS_JSON)
    if len(cut) == 1:
        return head, None, rest
    return (head, cut[0], cut[1]) if len(cut) == 2 else None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# Streams of one engine share their shapes: there are as many as engines and routes.
@lru_cache(maxsize=64)
def _shape(middle: bytes | None) -> _Shape:
    ids = b"" if middle is None else re.escape(middle) + b"(" + _IDS + b")"
    plain = b"" if middle is None else re.escape(middle) + _IDS
    return _Shape(
        one=re.compile(b"(" + _TEXT + b")" + ids),
        run=re.compile(b"(?>(?:" + _TEXT + plain + _MARK + b")*)"),
        texts=re.compile(b"(" + _TEXT + b")" + plain + _MARK),
        pairs=re.compile(b"(" + _TEXT + b")" + ids + _MARK),
    )
