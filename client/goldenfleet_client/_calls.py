"""What is sent: the first request of a call, and the request that continues it after a cut."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import ConfigurationError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

# Sampling that depends on nothing but the tokens so far, so that a continuation may simply repeat it.
_CARRIED = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "user",
    "repetition_penalty",
    "logit_bias",
)
_UNDERSTOOD = frozenset(
    {*_CARRIED, "prompt", "messages", "max_tokens", "stream", "stream_options", "return_token_ids"}
)
# These change what an answer is made of; a result of this client holds one text.
_NOT_TEXT = frozenset(
    {"n", "best_of", "echo", "logprobs", "top_logprobs", "tools", "functions", "tool_choice"}
)

# Token ids make an exact continuation possible; usage comes only when it is asked for.
STREAMED: Mapping[str, object] = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,
}

# Sequences of numbers, too.
_BYTES = (bytes, bytearray, memoryview)

Message = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    method: Literal["GET", "POST"]
    path: str
    body: Mapping[str, object] | None = None

    def content(self) -> bytes:
        """Raises ConfigurationError."""
        if self.body is None:
            return b""
        try:
            return json.dumps(self.body, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise ConfigurationError(f"the request cannot be written as JSON: {exc}") from exc


def generation(
    *,
    model: str | None,
    prompt: str | Sequence[int] | None = None,
    messages: Sequence[Message] | None = None,
    max_tokens: int,
    stream: bool,
    options: Mapping[str, object],
    extra: Mapping[str, object],
) -> Request:
    """`options` left at None are not sent; `extra` goes out as it is."""
    _check(model, max_tokens, options, extra)
    asked: dict[str, object] = {"model": model, "max_tokens": max_tokens}
    asked |= {"prompt": _prompt(prompt)} if messages is None else {"messages": _checked(messages)}
    asked |= {name: value for name, value in options.items() if value is not None}
    asked |= extra
    asked |= {"stream": stream}
    if stream:
        asked |= STREAMED
    return Request("POST", COMPLETIONS if messages is None else CHAT, asked)


def _prompt(prompt: object) -> str | list[int]:
    if isinstance(prompt, str):
        return prompt
    # Texts would be a batch.
    listed = list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, _BYTES) else []
    if not listed or not all(type(token) is int for token in listed):
        raise ConfigurationError("a prompt is a text, or a list of token ids")
    return listed


def _checked(messages: Sequence[Message]) -> list[dict[str, object]]:
    # A string is a sequence, too, of what is no message.
    if not all(isinstance(message, Mapping) for message in messages):
        raise ConfigurationError('messages are a list such as [{"role": "user", "content": "Hello"}]')
    return [dict(message) for message in messages]


def _check(
    model: str | None, max_tokens: int, options: Mapping[str, object], extra: Mapping[str, object]
) -> None:
    if not model:
        raise ConfigurationError("no model is named: pass model= to the call or to the client")
    if max_tokens < 1:
        raise ConfigurationError(f"max_tokens is {max_tokens}: ask for at least 1")
    if beyond := sorted(_NOT_TEXT & extra.keys()):
        raise ConfigurationError(
            f"{', '.join(beyond)}: this client returns one text; use an OpenAI SDK for that"
        )
    if taken := sorted({"stream", "prompt", "messages", "max_tokens", *options} & extra.keys()):
        raise ConfigurationError(f"{', '.join(taken)}: pass it as an argument of the call, not in extra")


def continuation_from_ids(
    request: Request, prompt_ids: Sequence[int], ids: Sequence[int], left: int | None
) -> Request:
    """Exact: the continuation's prompt is what the engine had read and said, token by token."""
    return _continuation(request, COMPLETIONS, {"prompt": [*prompt_ids, *ids]}, left)


def continuation_from_text(request: Request, text: str, left: int | None) -> Request:
    """As near as text allows: the engine goes on with a half-said answer."""
    body = request.body or {}
    if request.path == COMPLETIONS:
        return _continuation(request, COMPLETIONS, {"prompt": f"{body['prompt']}{text}"}, left)
    half_said = [*_messages(body), {"role": "assistant", "content": text}]
    prefill = {"messages": half_said, "continue_final_message": True, "add_generation_prompt": False}
    return _continuation(request, CHAT, prefill, left)


def _continuation(request: Request, path: str, start: Mapping[str, object], left: int | None) -> Request:
    body = request.body or {}
    carried = {name: body[name] for name in _CARRIED if name in body}
    limit = {} if left is None else {"max_tokens": left}
    return Request("POST", path, {**carried, **start, **limit, **STREAMED})


def _messages(body: Mapping[str, object]) -> list[object]:
    messages = body["messages"]
    return list(messages) if isinstance(messages, list) else []


def not_continuable(request: Request) -> str | None:
    """The first asked-for field whose effect on a continuation is unknown, if there is one."""
    return next((name for name in sorted(request.body or {}) if name not in _UNDERSTOOD), None)


def has_text_prompt(request: Request) -> bool:
    body = request.body or {}
    return "messages" in body or isinstance(body.get("prompt"), str)
