"""Tokens and finish reason of a whole answer, found without parsing it: the hot path reads no JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from server.wire.openai import Generation

# Engines put both behind the text, so only the end is searched.
_TAIL = 1024
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,32})"')
_PROMPT = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})')
_COMPLETION = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})')


class Usage(NamedTuple):
    prompt: int
    completion: int
    finish_reason: str | None


def read_usage(answer: bytes) -> Usage:
    """Zeros and None for what is not found."""
    tail = answer[-_TAIL:]
    reason = _FINISH.search(tail)
    return Usage(_number(_PROMPT, tail), _number(_COMPLETION, tail), reason[1].decode() if reason else None)


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
    except (ValueError, KeyError, TypeError):
        return ""
    return text if isinstance(text, str) else ""


def _number(pattern: re.Pattern[bytes], tail: bytes) -> int:
    # The last: an answer's text may hold the same words, and the engine's own come after it.
    found = pattern.findall(tail)
    return int(found[-1]) if found else 0
