"""An engine's refusal in our own words.

What an engine says of an error may quote the prompt, a path or an address inside the network, so none of its
text goes on: only what is recognised in it, from tables of ours.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from server.errors import EngineRefused

_STATUSES = frozenset(HTTPStatus)
INVALID = "invalid_request"
TOO_LONG = "context_length_exceeded"
NO_MODEL = "model_not_found"
# llama-server's word for what all others call TOO_LONG.
_CODES = {"exceed_context_size_error": TOO_LONG}
# As vLLM, SGLang, llama-server and TGI say it, and a node of ours.
_LENGTH = re.compile(r"context (?:length|size)|must have less than \d+ tokens")
_TOKENS = re.compile(
    r"(?:context (?:length|size)(?: is| of)?|context of|must have less than) \(?(\d{1,8}) tokens"
)
# The fields of both routes that a client may have got wrong.
_FIELDS = frozenset(
    {
        "best_of",
        "echo",
        "frequency_penalty",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "min_p",
        "min_tokens",
        "model",
        "n",
        "presence_penalty",
        "prompt",
        "repetition_penalty",
        "response_format",
        "seed",
        "stop",
        "stream_options",
        "suffix",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
    }
)


def engine_refusal(status: int, error: Mapping[str, Any]) -> EngineRefused:
    """`error` is OpenAI's error object as an engine has it."""
    text = error.get("message")
    text = text if isinstance(text, str) else ""
    code = _code(status, error, text)
    named = error.get("param")
    param = named if isinstance(named, str) and named in _FIELDS else None
    # A status of an engine's own invention cannot be sent.
    status = status if status in _STATUSES else 400
    return EngineRefused(
        _message(code, text, param), status=status, type="invalid_request_error", code=code, param=param
    )


def _code(status: int, error: Mapping[str, Any], text: str) -> str:
    for name in (error.get("code"), error.get("type")):
        if isinstance(name, str) and (found := _CODES.get(name, name)) in (TOO_LONG, NO_MODEL):
            return found
    if status == 404:
        return NO_MODEL
    return TOO_LONG if _LENGTH.search(text) else INVALID


def _message(code: str, text: str, param: str | None) -> str:
    if code == TOO_LONG:
        tokens = _TOKENS.search(text)
        size = f" of {tokens[1]} tokens" if tokens else ""
        return f"The request does not fit the model's context{size}: shorten the prompt or lower max_tokens."
    if code == NO_MODEL:
        return "There is no such model here; GET /v1/models lists those that there are."
    if param is not None:
        return f"The engine refused the request for its `{param}`: check its value."
    return "The engine refused the request: check the values of its fields."
