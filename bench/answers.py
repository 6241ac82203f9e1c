"""Requests as bytes, and what an answer's bytes are worth: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.frames import MODEL, Json, Kind
from bench.tokens import read_prompt, text_of

Verdict = Literal["ok", "failed", "truncated", "wrong"]

_PATHS: dict[Kind, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, ready to be written, and the text that answers it."""

    raw: bytes
    key: int
    tokens: int
    expected: str


def ask(
    key: int,
    tokens: int,
    *,
    stream: bool,
    headers: Mapping[str, str],
    kind: Kind = "completions",
) -> Asked:
    prompt = prompt_of(key)
    said: dict[str, object] = (
        {"prompt": prompt} if kind == "completions" else {"messages": [{"role": "user", "content": prompt}]}
    )
    body = {"model": MODEL, **said, "max_tokens": tokens, "temperature": 0, "stream": stream}
    raw = json.dumps(body).encode()
    lines = [
        f"POST {_PATHS[kind]} HTTP/1.1",
        "host: bench",
        "content-type: application/json",
        f"content-length: {len(raw)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return Asked(head + raw, key, tokens, text_of(key, len(read_prompt(body).ids), tokens))


def prompt_of(key: int) -> str:
    return f"{key} tell me of golden fleets and of the sea"


def whole_length(data: bytes) -> int | None:
    """Bytes of a whole answer at the start of `data`, or None while some are missing."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    at = data.find(b"ontent-", 0, head_end)
    while at >= 0:
        if data[at + 7 : at + 14].lower() == b"length:":
            length = head_end + 4 + int(data[at + 14 : data.find(b"\r", at + 14)])
            return length if length <= len(data) else None
        at = data.find(b"ontent-", at + 7, head_end)
    return len(data) if data.endswith(_LAST_CHUNK) else None


def closes(data: bytes) -> bool:
    """Whether the answer says that the connection ends with it."""
    return b"connection: close" in data[: data.find(b"\r\n\r\n")].lower()


def status_of(data: bytes) -> int:
    return int(data[9:12]) if data[9:12].isdigit() else 0


def events_in(data: bytes) -> int:
    return data.count(b"data:")


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One stream as its client saw it; times in monotonic seconds, `reads` of reads with content."""

    asked: Asked
    began: float
    reads: Sequence[float]
    body: bytes
    ended: Literal["clean", "cut", "late"]

    @property
    def first_s(self) -> float | None:
        """Time to the first token."""
        return self.reads[0] - self.began if self.reads else None

    @property
    def tokens(self) -> int:
        """Events with content, as far as it came."""
        return sum(1 for event in _events(self.body) if event is not None and _said(event))

    @property
    def gaps_s(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.reads, self.reads[1:], strict=False)]

    @property
    def verdict(self) -> Verdict:
        events = _events(self.body)
        text = "".join(_said(event) for event in events if event is not None)
        done = self.ended == "clean" and b"data: [DONE]" in self.body and any(map(_finished, events))
        if self.ended == "clean" and None in events:
            # Clients stop at what is no JSON; a library may resume, and nobody would ever hear of it.
            return "wrong"
        if status_of(self.body) != 200 or not text:
            return "failed"
        if text == self.asked.expected:
            return "ok" if done else "truncated"
        return "truncated" if self.asked.expected.startswith(text) else "wrong"


def text_in(answer: bytes) -> str:
    """The text of a plain answer; nothing of what is not JSON."""
    event = _parsed(dechunked(answer))
    return "" if event is None else _said(event)


def _events(answer: bytes) -> list[Json | None]:
    """Each event's JSON, the end mark left out; None for one that is not JSON."""
    lines = [line for line in dechunked(answer).split(b"\n") if line.startswith(b"data:")]
    data = [line.removeprefix(b"data:").strip() for line in lines]
    return [_parsed(item) for item in data if item != b"[DONE]"]


def _parsed(data: bytes) -> Json | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _said(event: Json) -> str:
    """A completion's text, a chat's content, of a chunk or a whole answer."""
    parts = [choice.get("delta") or choice.get("message") or choice for choice in event.get("choices") or ()]
    return "".join(part.get("content") or part.get("text") or "" for part in parts)


def _finished(event: Json | None) -> bool:
    return event is not None and any(choice.get("finish_reason") for choice in event.get("choices") or ())


def dechunked(answer: bytes) -> bytes:
    """The body without chunked coding; a plain body as it is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    pieces, at = [], 0
    while (line_end := body.find(b"\r\n", at)) > 0:
        try:
            size = int(body[at:line_end].split(b";")[0], 16)
        except ValueError:
            break
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 4 + size
    return b"".join(pieces)
