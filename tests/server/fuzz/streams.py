"""Streams of an engine, honest and broken, and what a client may make of them."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.server.fuzz.cases import damage, pieces

LETTERS = "abcdefghijklmnopqrstuvwxyzäöü€🙂"
PROMPT = "p"
LENGTH = 30
FULL = "".join(LETTERS[at % len(LETTERS)] for at in range(LENGTH))
JUNK = [
    b"data: {not json\n\n",
    b"data: [1, 2]\n\n",
    b"data: null\n\n",
    b'data: "x"\n\n',
    b'data: {"choices": 1}\n\n',
    b'data: {"choices": [1]}\n\n',
    b'data: {"choices": [{}]}\n\n',
    b'data: {"choices": [{"delta": 1, "text": 1}]}\n\n',
    b'data: {"choices": [{"delta": {"content": {}}, "text": []}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "JUNK"}, "text": "JUNK"\n\n',
    b"data: " + b"[" * 5000 + b"\n\n",
    b"data: \xff\xfe\n\n",
    b'data: {"error": {"message": "secret", "type": "x", "code": "x"}}\n\n',
    b'data: {"error": {"message": "secret", "type": "BadRequestError", "code": 499}}\n\n',
    b'data: {"error": {"message": "secret", "code": 429}}\n\n',
    b'data: {"error": {"message": "secret", "code": [1]}}\n\n',
    b'data: {"error": "secret", "error_type": "overloaded"}\n\n',
    b"data: " + b"x" * 1_100_000 + b"\n\n",
    b"x" * 1_100_000,
    b"\x1f\x8b\x08\x00junk\n\n",
]
HARMLESS = [
    b": a comment\n\n",
    b":\n\n",
    b"\n",
    b"\n\n\n",
    b"event: message\n\n",
    b"id: 1\nretry: 5\n\n",
    b"x: y\n\n",
    b": " + b"c" * 10_000 + b"\n\n",
]
KINDS = ["application/json", "text/html", "", "text/event-streams\xff", "TEXT/EVENT-STREAM"]
STATUSES = [200, 204, 206, 301, 304, 400, 401, 404, 418, 422, 429, 451, 499, 500, 503, 599, 999]


@dataclass
class Behaviour:
    """How an engine answers one case: broken at first, whole after `bad` attempts."""

    rng: Random
    bad: int
    ids: bool
    destructive: bool
    attempts: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, head: bytes, raw: bytes) -> list[bytes]:
        body = json.loads(raw)
        self.asked.append(body)
        self.attempts += 1
        chat = head.split(b" ")[1] == b"/v1/chat/completions"
        stream = list(self._events(body, chat))
        if self.attempts > self.bad:
            return framed(self.rng, self._told(stream), cut=False)
        return self._broken(stream)

    def _events(self, body: dict[str, Any], chat: bool) -> Iterator[bytes]:
        """From where the request leaves off, one to three tokens to an event."""
        begun = _begun(body, chat)
        asked = body.get("max_tokens") or body.get("max_completion_tokens") or LENGTH - begun
        end = min(LENGTH, begun + asked)
        first: dict[str, Any] = {"prompt_token_ids": [ord(PROMPT)]} if self.ids else {}
        if chat:
            yield event(chat, {"role": "assistant", "content": ""}, top=first)
        at = begun
        while at < end:
            to = min(end, at + self.rng.choice((1, 1, 1, 2, 3)))
            more = {"token_ids": list(map(ord, FULL[at:to]))} if self.ids else {}
            if not chat and at == begun and self.ids:
                more |= {"prompt_token_ids": _ids_of(body["prompt"])}
            yield event(chat, FULL[at:to], more=more)
            at = to
        yield event(chat, "", reason="length")
        usage = {"prompt_tokens": 1 + begun, "completion_tokens": end - begun, "total_tokens": 1 + end}
        yield b"data: " + json.dumps({"id": "x", "choices": [], "usage": usage}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    def _told(self, stream: list[bytes]) -> bytes:
        """The same said in another way: other line ends, comments, lines of data."""
        rng = self.rng
        for _ in range(rng.choice((0, 0, 1, 3))):
            stream.insert(rng.randrange(len(stream)), rng.choice(HARMLESS))
        kind = rng.randrange(6)
        if kind == 1:
            return b"".join(stream).replace(b"\n", b"\r\n")
        if kind == 2:
            return b"".join(stream).replace(b"\n", b"\r")
        if kind == 3:
            return b"".join(one.replace(b"\n", rng.choice((b"\n", b"\r\n", b"\r"))) for one in stream)
        if kind == 4:
            return b"\xef\xbb\xbf" * rng.randrange(2) + b"".join(
                one.replace(b"data: ", b"data:").replace(b", ", b",\ndata: ", rng.randrange(2))
                for one in stream
            )
        return b"".join(stream)

    def _broken(self, stream: list[bytes]) -> list[bytes]:
        return self.rng.choice(
            (self._cut, self._unended, self._junk, self._junk, self._more, self._early, self._other_head)
            + ((self._garbled,) * 2 if self.destructive else (self._silent,))
        )(stream)

    def _cut(self, stream: list[bytes]) -> list[bytes]:
        return framed(self.rng, self._told(stream), cut=True)

    def _unended(self, stream: list[bytes]) -> list[bytes]:
        """No terminal event, and a clean end."""
        return framed(self.rng, self._told(stream[: self.rng.randrange(1, len(stream))]), cut=False)

    def _junk(self, stream: list[bytes]) -> list[bytes]:
        stream.insert(self.rng.randrange(len(stream)), self.rng.choice(JUNK))
        return framed(self.rng, self._told(stream), cut=False)

    def _more(self, stream: list[bytes]) -> list[bytes]:
        """More behind the end."""
        after = [b"data: [DONE]\n\n", event(False, "AFTER"), b"junk", b"data: {", *JUNK[:3]]
        stream.append(self.rng.choice(after))
        return framed(self.rng, self._told(stream), cut=self.rng.random() < 0.5)

    def _early(self, stream: list[bytes]) -> list[bytes]:
        """[DONE] before the end."""
        stream.insert(self.rng.randrange(max(1, len(stream) - 2)), b"data: [DONE]\n\n")
        return framed(self.rng, self._told(stream), cut=False)

    def _other_head(self, stream: list[bytes]) -> list[bytes]:
        rng, body = self.rng, b"".join(stream)
        if rng.random() < 0.3:
            more = rng.choice(("Content-Encoding: gzip\r\n", ""))
            return framed(rng, gzip.compress(body), cut=False, more=more)
        if rng.random() < 0.5:
            return framed(rng, body, cut=False, kind=rng.choice(KINDS))
        return framed(rng, rng.choice((body, b"{", b"")), cut=False, status=rng.choice(STATUSES))

    def _silent(self, _: list[bytes]) -> list[bytes]:
        """Nothing that is HTTP."""
        rng = self.rng
        return [b"HTTP/1.1 100 Continue\r\n\r\n" * rng.randrange(3), rng.randbytes(rng.randrange(40))]

    def _garbled(self, stream: list[bytes]) -> list[bytes]:
        rng = self.rng
        if rng.random() < 0.5:
            return framed(rng, damage(rng, self._told(stream), [b"\n\n", b"\r", b"data: ", b"}"]), cut=False)
        return pieces(rng, damage(rng, b"".join(framed(rng, b"".join(stream), cut=False)), [b"\r\n"]))


def event(
    chat: bool,
    content: Any,
    *,
    reason: str | None = None,
    more: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
) -> bytes:
    delta = content if isinstance(content, dict) else {"content": content} if content else {}
    said = {"delta": delta} if chat else {"text": content}
    choice = {"index": 0, "finish_reason": reason} | said | (more or {})
    return (
        b"data: "
        + json.dumps({"id": "x", "created": 1, "choices": [choice]} | (top or {})).encode()
        + b"\n\n"
    )


def framed(
    rng: Random,
    body: bytes,
    *,
    cut: bool,
    status: int = 200,
    kind: str = "text/event-stream",
    more: str = "",
) -> list[bytes]:
    """An answer in one of HTTP's three framings, in pieces; with `cut` it breaks off at any byte."""
    head = f"HTTP/1.1 {status} X\r\n{more}" + (f"Content-Type: {kind}\r\n" if kind else "")
    how = rng.randrange(3)
    if how == 0:
        sizes = pieces(rng, body, most=20)
        wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in sizes) + b"0\r\n\r\n"
        wire = (head + "Transfer-Encoding: chunked\r\n\r\n").encode("latin-1") + wire
    elif how == 1:
        wire = (head + f"Content-Length: {len(body)}\r\n\r\n").encode("latin-1") + body
    else:
        wire = (head + "Connection: close\r\n\r\n").encode("latin-1") + body
    if cut:
        wire = wire[: rng.randrange(len(wire))]
    if len(wire) < 4000 and rng.random() < 0.1:
        return [wire[at : at + 1] for at in range(len(wire))]
    return pieces(rng, wire, most=rng.choice((1, 3, 40)))


def _begun(body: dict[str, Any], chat: bool) -> int:
    """How much of the answer the request already holds."""
    if chat:
        return len(body["messages"][-1]["content"]) if body.get("continue_final_message") else 0
    return len(body["prompt"]) - len(PROMPT)


def _ids_of(prompt: Any) -> list[int]:
    return list(map(ord, prompt)) if isinstance(prompt, str) else prompt
