"""What the fake engine puts on the wire, made once and kept: no JSON is written while a stream runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, Literal

from bench.tokens import Prompt, text_of, token_id, token_text

Json = dict[str, Any]
Kind = Literal["chat", "completions"]

MODEL = "goldenfleet-bench"
CREATED = 1_700_000_000
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_TEXT, _ID = b"<text>", 987654321
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """All that tells one stream's events from another's, but for the positions."""

    kind: Kind
    key: int
    with_ids: bool


@dataclass
class Frames:
    """The events of streams of one shape, by absolute position, in chunked coding."""

    shape: Shape
    _made: list[bytes] = field(default_factory=list)

    def some(self, position: int, count: int) -> bytes:
        """`count` events from `position` on."""
        end = position + count
        if len(self._made) < end:
            self._made += [self._event(at, None) for at in range(len(self._made), end)]
        if count == 1:
            return self._made[position]
        return b"".join(self._made[position:end])

    def opening(self, prompt_ids: Sequence[int]) -> bytes:
        """What comes before the first token: a chat's role, with the prompt's ids at the top of the chunk."""
        if self.shape.kind == "completions":
            return b""
        chunk = self._chunk("", None, [] if self.shape.with_ids else None)
        chunk["choices"][0]["delta"] = {"role": "assistant", "content": ""}
        if self.shape.with_ids:
            chunk["prompt_token_ids"] = list(prompt_ids)
        return chunked(_sse(chunk))

    def first(self, prompt_ids: Sequence[int]) -> bytes:
        """The first token; a completion's carries the prompt's ids in its choice, as vLLM's does."""
        position = len(prompt_ids)
        if self.shape.kind == "chat" or not self.shape.with_ids:
            return self.some(position, 1)
        chunk = self._chunk(token_text(self.shape.key, position), None, [token_id(position)])
        chunk["choices"][0]["prompt_token_ids"] = list(prompt_ids)
        return chunked(_sse(chunk))

    def ending(self, position: int, prompt_tokens: int, completion_tokens: int, *, usage: bool) -> bytes:
        """The last token with its finish reason, usage if wanted, and the end of the stream."""
        last = self._event(position, "length")
        if usage:
            summed = {"choices": [], "usage": usage_of(prompt_tokens, completion_tokens)}
            last += chunked(_sse(head_of(self.shape, streamed=True) | summed))
        return last + _DONE

    def _event(self, position: int, finish_reason: str | None) -> bytes:
        shape = self.shape
        text = token_text(shape.key, position)
        if finish_reason is None:
            before, between, after = self._pieces
            number = b"%d" % token_id(position) if shape.with_ids else b""
            return chunked(b"".join((before, text.encode(), between, number, after)))
        return chunked(
            _sse(self._chunk(text, finish_reason, [token_id(position)] if shape.with_ids else None))
        )

    @cached_property
    def _pieces(self) -> tuple[bytes, bytes, bytes]:
        """A token's event around its text and its id."""
        whole = _sse(self._chunk(_TEXT.decode(), None, [_ID] if self.shape.with_ids else None))
        before, rest = whole.split(_TEXT)
        between, _, after = rest.partition(b"%d" % _ID)
        return before, between, after

    def _chunk(self, text: str, finish_reason: str | None, ids: list[int] | None) -> Json:
        chat = self.shape.kind == "chat"
        said: Json = {"delta": {"content": text}} if chat else {"text": text}
        choice: Json = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
        if ids is not None:
            choice["token_ids"] = ids
        return {**head_of(self.shape, streamed=True), "choices": [choice]}


def unary(shape: Shape, prompt: Prompt, count: int) -> bytes:
    """A whole answer, head and body."""
    text = text_of(shape.key, len(prompt.ids), count)
    said: Json = (
        {"message": {"role": "assistant", "content": text}} if shape.kind == "chat" else {"text": text}
    )
    choice: Json = {"index": 0, **said, "logprobs": None, "finish_reason": "length"}
    if shape.with_ids:
        choice["token_ids"] = [token_id(len(prompt.ids) + index) for index in range(count)]
        choice["prompt_token_ids"] = prompt.ids
    answer = {
        **head_of(shape, streamed=False),
        "choices": [choice],
        "usage": usage_of(len(prompt.ids), count),
    }
    return json_answer(200, answer)


def json_answer(status: int, answer: Json, headers: bytes = b"") -> bytes:
    body = json.dumps(answer, separators=(",", ":")).encode()
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status,
        HTTPStatus(status).phrase.encode(),
        len(body),
        headers,
        body,
    )


def head_of(shape: Shape, *, streamed: bool) -> Json:
    """Fields of every chunk and answer. The id follows from the key: equal requests get equal bytes."""
    if shape.kind == "chat":
        prefix, name = "chatcmpl", "chat.completion.chunk" if streamed else "chat.completion"
    else:
        prefix, name = "cmpl", "text_completion"
    return {"id": f"{prefix}-{shape.key:032d}", "object": name, "created": CREATED, "model": MODEL}


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _sse(chunk: Json) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk, separators=(",", ":")).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
