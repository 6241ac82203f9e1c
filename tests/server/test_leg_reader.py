"""Reading what need not be parsed without parsing it comes to the same as parsing it."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import AttemptFailed, EngineRefused, WireError
from server.faces import OpenAiFace, TgiChatFace
from server.leg_reader import LegReader
from server.record import Record
from server.resume import first_leg, next_leg
from server.wire.openai import Kind, check_generation
from server.wire.sse import DONE_FRAME, SseParser

BODIES: dict[Kind, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 500, "stream": True},
    "completions": {"prompt": "hi", "max_tokens": 500, "stream": True},
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"return_token_ids": True},
    {"stop": ["ab", "\n"]},
    {"n": 2},
    {"stream_options": {"include_usage": True}, "return_token_ids": True, "stop": "x"},
]
SPECIAL = ['"', "\\", "\n", "\x1e", "ä", "💧", "\ud83d", ',"token_ids":[1]', '"},', "]}]}\n\n", "data: ", "/"]

BYTES = [
    b"\x1e",
    b"\xff",
    b"\xc3",
    b'"',
    b"\\",
    b",",
    b"0",
    b"-",
    b" ",
    b"\n",
    b"\r",
    b"}",
    b"[",
    b"\x00",
    b"\x7f",
]

texts = st.one_of(st.text(max_size=4), st.sampled_from(SPECIAL), st.just("a"))
ids = st.one_of(st.none(), st.lists(st.integers(0, 2**40), max_size=3), st.just([7]))


@dataclass(frozen=True)
class Style:
    """How an engine writes its events."""

    separators: tuple[str, str]
    ascii: bool
    sort: bool
    lead: bytes
    end: bytes

    def event(self, chunk: Any) -> bytes:
        raw = json.dumps(
            chunk, separators=self.separators, ensure_ascii=self.ascii, sort_keys=self.sort
        ).encode("utf-8", "surrogatepass")
        return self.lead + raw + self.end


styles = st.builds(
    Style,
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"data: ", b"data:", b"data:  "]),
    st.sampled_from([b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r"]),
)


@st.composite
def token_runs(draw: st.DrawFn, kind: Kind) -> list[dict[str, Any]]:
    """What engines send most: the same again and again, but for text and ids."""
    odd = draw(
        st.sampled_from([*[None] * 9, "usage", "null", "prompt", "finish", "two", "tool", "more", "made"])
    )
    with_ids = draw(st.sampled_from([True, True, True, False]))
    created = draw(st.sampled_from([1, 1, 1, 2]))
    some_texts = texts if draw(st.booleans()) else st.sampled_from(["a", "ab", " b", "\n"])
    some_ids = ids if draw(st.sampled_from([False, False, True])) else st.just([7] if with_ids else None)
    chunks = []
    for _ in range(draw(st.integers(1, 9))):
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": None}
        text, token_ids = draw(some_texts), draw(some_ids)
        choice |= {"delta": {"content": text}} if kind == "chat" else {"text": text}
        if token_ids is not None:
            choice["token_ids"] = token_ids
        chunk: dict[str, Any] = {"id": "a", "created": created, "choices": [choice]}
        chunks.append(_made_odd(chunk, odd) if odd else chunk)
    return chunks


def _made_odd(chunk: dict[str, Any], odd: str) -> dict[str, Any]:
    [choice] = chunk["choices"]
    if odd == "usage":
        chunk["usage"] = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 4}
    elif odd == "null":
        chunk["usage"] = None
    elif odd == "prompt":
        chunk["prompt_token_ids"] = [1, 2]
    elif odd == "finish":
        choice["finish_reason"] = "stop"
    elif odd == "two":
        chunk["choices"].append(choice | {"index": 1})
    elif odd == "tool" and "delta" in choice:
        choice["delta"]["tool_calls"] = [{"index": 0}]
    elif odd == "more":
        chunk["more"] = {"content": "x", "text": "y", "token_ids": [5]}
    elif odd == "made":
        chunk["timings"] = {"predicted_n": 3}
    return chunk


def edges(kind: Kind) -> list[Any]:
    """What begins and ends streams, and what should not be in one."""
    role: dict[str, Any] = {"index": 0, "finish_reason": None}
    role |= {"delta": {"role": "assistant", "content": ""}} if kind == "chat" else {"text": ""}
    last: dict[str, Any] = {"index": 0, "finish_reason": "length", "token_ids": [3]}
    last |= {"delta": {}} if kind == "chat" else {"text": ""}
    return [
        {"id": "a", "created": 1, "choices": [role], "prompt_token_ids": [1, 2]},
        {"id": "a", "created": 1, "choices": [last]},
        {"id": "a", "created": 1, "choices": [], "usage": {"prompt_tokens": 2, "total_tokens": 5}},
        {"error": {"message": "x", "code": "node_draining"}},
        {"error": {"message": "x", "code": 400}},
        {"choices": [{"delta": {"content": 5}, "text": 5}]},
        [],
    ]


@st.composite
def streams(draw: st.DrawFn, kind: Kind) -> list[bytes]:
    """A stream in the pieces in which it arrives: mostly whole events."""
    style = draw(styles)
    rare = st.sampled_from(
        [*edges(kind), b": ping\n\n", DONE_FRAME, b"data: {nonsense\n\n", b"\n", b"id: 1\n"]
    )
    parts = draw(st.lists(st.one_of(*[token_runs(kind)] * 3, rare.map(lambda part: [part])), max_size=4))
    pieces = [part if isinstance(part, bytes) else style.event(part) for run in parts for part in run]
    if draw(st.sampled_from([False, False, True])):
        pieces = _tampered(
            pieces, draw(st.lists(st.tuples(st.integers(0), st.sampled_from(BYTES)), max_size=2))
        )
    if draw(st.booleans()):
        return split(b"".join(pieces), draw(st.lists(st.integers(0, 4000), max_size=9)))
    return pieces


def _tampered(pieces: list[bytes], edits: list[tuple[int, bytes]]) -> list[bytes]:
    """With bytes put where no engine puts them."""
    pieces = list(pieces)
    for at, what in edits:
        if pieces:
            piece = pieces[at % len(pieces)]
            where = at // len(pieces) % (len(piece) + 1)
            pieces[at % len(pieces)] = piece[:where] + what + piece[where:]
    return pieces


def started(kind: Kind, option: dict[str, Any], *, resumed: bool) -> tuple[Record, Any]:
    """A record at the start of a leg: the first one, or one that continues `ab`."""
    record = Record(check_generation(kind, BODIES[kind] | option))
    leg = first_leg(record.generation)
    if resumed and record.generation.choices == 1:
        reader = LegReader(leg, record, OpenAiFace("r"))
        choice: dict[str, Any] = {"index": 0, "token_ids": [9], "prompt_token_ids": [1, 2]}
        choice |= {"delta": {"content": "ab"}} if kind == "chat" else {"text": "ab"}
        list(reader.frames(b"data: %b\n\n" % json.dumps({"id": "first", "choices": [choice]}).encode()))
        reader.settle()
        record.stop_across = None
        leg = next_leg(record)
    return record, leg


def outcome(reader: LegReader, record: Record, pieces: list[bytes], *, skims: bool) -> tuple[Any, ...]:
    """What a client gets, what is remembered, and how it ended."""
    out, error = b"", None
    try:
        for piece in pieces:
            rest: bytes | None = piece
            if skims and (skimmed := reader.skim(piece)) is not None:
                out += skimmed[0]
                rest = skimmed[1]
            if rest:
                for frame in reader.frames(rest):
                    out += frame
            if reader.done:
                break
    except (AttemptFailed, EngineRefused, WireError) as exc:
        error = (type(exc), str(exc))
    reader.settle()
    parsed = [event.data for event in SseParser().feed(out)]
    events = [data if data in (None, b"[DONE]") else json.loads(data) for data in parsed]
    remembered = {
        name: getattr(record, name) for name in Record.__dataclass_fields__ if name != "stop_across"
    }
    # A surrogate pair that two events share is two characters or one: as JSON they are the same.
    return json.dumps(events), json.dumps(remembered.pop("text")), remembered, reader.done, error


class Unrepeating(OpenAiFace):
    repeats = False


class UnrepeatingTgiChat(TgiChatFace):
    repeats = False


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(points)]


@pytest.mark.parametrize("kind", ["chat", "completions"])
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_stream_is_the_same_parsed_or_not(kind: Kind, data: st.DataObject) -> None:
    """Any events in any style, cut anywhere, give the client and the record what parsing each gives."""
    option, resumed = data.draw(st.sampled_from(OPTIONS)), data.draw(st.booleans())
    route: Kind = "completions" if resumed and option != {"n": 2} else kind
    pieces = data.draw(streams(route))
    tgi = kind == "chat" and data.draw(st.booleans())
    results = []
    for skims in (False, True):
        record, leg = started(kind, option, resumed=resumed)
        if tgi:
            made = TgiChatFace if skims else UnrepeatingTgiChat
            face: OpenAiFace = made("r", says_done=True)
        else:
            face = (OpenAiFace if skims else Unrepeating)("r")
        parts = pieces if skims else [b"".join(pieces)]
        results.append(outcome(LegReader(leg, record, face), record, parts, skims=skims))
    assert results[1] == results[0]


def token(text: bytes, ids: bytes = b"7", more: bytes = b"") -> bytes:
    choice = b'{"index":0,"delta":{"content":"%b"%b},"finish_reason":null,"token_ids":[%b]}' % (
        text,
        more,
        ids,
    )
    return b'data: {"id":"a","created":1,"choices":[%b]}\n\n' % choice


A = token(b"a")
HEAD, MIDDLE, TAIL = A[: A.index(b'a"},')], A[A.index(b'"},"fin') : A.index(b"7]")], A[A.index(b"]}]}") :]
SILENT = A.replace(b'"content":"a"', b'"content":""')
TRAPS = {
    "what stands for the joint between two events": [
        A + token(b"b"),
        HEAD + b"a" + MIDDLE + b"7\x1eb" + MIDDLE + b"8" + TAIL + A,
    ],
    "no UTF-8": [A, A, token(b"\xff"), A],
    "no UTF-8 in a run": [A, A + token(b"\xe2\x82") + A],
    "half a character at an event's end": [A, token(b"\xe2") + token(b"\x82\xac")],
    "a bare control character": [A, token(b"\x01")],
    "a bare tab in a run": [A, A + token(b"\t") + A],
    "ids whose text is held back": [A, A, SILENT, A, A, SILENT + SILENT + A + A],
    "an end that is not LF LF": [A, A + token(b"z")[:-2] + b"\r\r"],
    "a key that is escaped": [
        token(b"a", more=b',"\\u0063ontent":"b"'),
        token(b"c", more=b',"\\u0063ontent":"b"'),
    ],
    "an id with a leading zero": [A, token(b"a", b"07"), A],
    "no id": [A, token(b"a", b""), A],
    "several ids": [A, token(b"ab", b"1, 2,3"), token(b"c", b"4") + A],
    "an escape that never ends": [A, token(b"\\"), A],
    "a surrogate pair in two events": [A, token(b"\\ud83d") + token(b"\\ude00"), A],
    "text that looks like an event's parts": [A, token(b'\\"},\\"token_ids\\":[1]}]}\\n\\n'), A],
    "another id in its head": [A, A.replace(b'"id":"a"', b'"id":"b"'), A],
    "what is left of a read": [A, A + A[:50], A[50:] + A[:3], A[3:], A],
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("trap", TRAPS)
def test_what_only_looks_like_a_token_event_is_read_as_it_is(trap: str, option: dict[str, Any]) -> None:
    """Near misses, one by one: parsing decides."""
    results = []
    for skims in (False, True):
        record, leg = started("chat", option, resumed=False)
        reader = LegReader(leg, record, (OpenAiFace if skims else Unrepeating)("r"))
        pieces = TRAPS[trap] if skims else [b"".join(TRAPS[trap])]
        results.append(outcome(reader, record, pieces, skims=skims))
    assert results[1] == results[0]


@pytest.mark.parametrize("size", [1, 100, 1000, 64 * 1024])
@pytest.mark.parametrize("option", [{}, {"return_token_ids": True}, {"stop": ["never"]}])
def test_a_plain_stream_is_parsed_once(size: int, option: dict[str, Any]) -> None:
    """Of events that are alike only the first is parsed, however they arrive, and little of them is kept."""
    record, leg = started("chat", option, resumed=False)
    reader = LegReader(leg, record, OpenAiFace("r"))
    stream = b"".join(token(b"t%d" % n, b"%d" % n) for n in range(2000))
    out = b""
    for at in range(0, len(stream), size):
        rest: bytes = stream[at : at + size]
        if (skimmed := reader.skim(rest)) is not None:
            out, rest = out + skimmed[0], skimmed[1]
        out += b"".join(reader.frames(rest)) if rest else b""
        assert reader.kept_bytes < 10_000
    reader.settle()
    assert reader.parsed == 1
    assert (record.text, record.ids) == ("".join(f"t{n}" for n in range(2000)), list(range(2000)))
    assert len(SseParser().feed(out)) == 2000
