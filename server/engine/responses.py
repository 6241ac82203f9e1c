"""OpenAI's response shapes. Token ids stand where vLLM puts them.

`token_ids` in the choice; `prompt_token_ids` in the choice for completions, at the top level for chat.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from server.engine.config import MODEL_ID
from server.engine.detokenizer import Delta
from server.engine.errors import RequestError
from server.engine.requests import Asked

Kind = Literal["chat", "completion"]
Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"


def event(payload: Json) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def error_body(message: str, status: int, code: str | None = None, param: str | None = None) -> Json:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal_body(error: RequestError) -> Json:
    return error_body(error.message, error.status, error.code, error.param)


def model_list(model_id: str, created: int, context: int) -> Json:
    model = {"id": model_id, "object": "model", "created": created, "owned_by": "goldenfleet"}
    return {"object": "list", "data": [model | {"max_model_len": context}]}


@dataclass(frozen=True)
class Writer:
    """Shapes one answer. `created` is in unix seconds; `fingerprint` names the weights."""

    kind: Kind
    asked: Asked
    id: str
    created: int
    fingerprint: str
    model_id: str = MODEL_ID

    def opening(self) -> Iterator[Json]:
        """What a stream says before its first token: chat names the role."""
        if self.kind == "chat":
            chunk = self._chunk(
                [self._choice(delta={"role": "assistant", "content": ""}, finish_reason=None)]
            )
            yield chunk | self._prompt_ids()

    def chunk(self, delta: Delta, *, first: bool) -> Json:
        if self.kind == "chat":
            choice = self._choice(delta={"content": delta.text}, finish_reason=delta.finish_reason)
        else:
            choice = self._choice(text=delta.text, finish_reason=delta.finish_reason)
            choice |= self._prompt_ids() if first else {}
        return self._chunk([choice | self._ids(delta.token_ids)])

    def usage_chunk(self, generated: int) -> Json:
        return self._chunk([]) | {"usage": self._usage(generated)}

    def whole(self, deltas: Sequence[Delta]) -> Json:
        text = "".join(delta.text for delta in deltas)
        ids = tuple(token for delta in deltas for token in delta.token_ids)
        reason = deltas[-1].finish_reason
        if self.kind == "chat":
            message = {"role": "assistant", "content": text, "refusal": None}
            body = self._head("chat.completion", [self._choice(message=message, finish_reason=reason)])
            body |= self._prompt_ids()
        else:
            choice = self._choice(text=text, finish_reason=reason) | self._prompt_ids()
            body = self._head("text_completion", [choice])
        body["choices"][0] |= self._ids(ids)
        return body | {"usage": self._usage(len(ids))}

    def _chunk(self, choices: list[Json]) -> Json:
        body = self._head("chat.completion.chunk" if self.kind == "chat" else "text_completion", choices)
        return body | {"usage": None} if self.asked.include_usage else body

    def _head(self, shape: str, choices: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": shape,
            "created": self.created,
            "model": self.model_id,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }

    def _choice(self, **content: Any) -> Json:
        return {"index": 0, **content, "logprobs": None}

    def _ids(self, ids: Sequence[int]) -> Json:
        return {"token_ids": list(ids)} if self.asked.return_token_ids else {}

    def _prompt_ids(self) -> Json:
        ids = self.asked.prompt.token_ids
        return {"prompt_token_ids": list(ids)} if self.asked.return_token_ids else {}

    def _usage(self, generated: int) -> Json:
        read = len(self.asked.prompt.token_ids)
        return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}
