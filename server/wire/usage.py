"""Tokens and finish reason of a whole answer, found without parsing it: the hot path reads no JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from server.wire.openai import Generation

_TAIL = 1024
# Inside a JSON string a quote has a backslash before it, so these are found only where they are names.
_USAGE, _FINISH_REASON = b'"usage"', b'"finish_reason"'
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,32})"')
_PROMPT = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})')
_COMPLETION = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})')


class Usage(NamedTuple):
    prompt: int
    completion: int
    finish_reason: str | None


def read_usage(answer: bytes) -> Usage:
    """Zeros and None for what is not found. Engines put both behind the text, so the end is searched."""
    answer = answer[-_TAIL:]
    usage = max(0, answer.rfind(_USAGE))
    finish = max(0, answer.rfind(_FINISH_REASON))
    reason = _FINISH.match(answer, finish)
    prompt, completion = _PROMPT.search(answer, usage), _COMPLETION.search(answer, usage)
    return Usage(
        int(prompt[1]) if prompt else 0,
        int(completion[1]) if completion else 0,
        reason[1].decode() if reason else None,
    )


def tokens_of(usage: Mapping[str, Any], name: str) -> int:
    """A count of an engine's usage; 0 for one that is none."""
    value = usage.get(name)
    return value if type(value) is int and value > 0 else 0


def prompt_of(generation: Generation) -> object:
    """Messages of a chat, or a prompt: for a trace that may hold them."""
    return generation.body.get("messages" if generation.kind == "chat" else "prompt")


def answer_of(answer: bytes) -> str:
    """The text of a whole answer's first choice: for a trace that may hold it."""
    try:
        [choice, *_] = json.loads(answer)["choices"]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return text if isinstance(text, str) else ""
