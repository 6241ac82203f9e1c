"""The fake model: a token's text follows from its absolute position and the prompt's key, and nothing else.

So a generation that was continued elsewhere can be checked to the letter, and a text that was made for
another request shows. A prompt is cut into words, one token each; a word of digits is its key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

KEYS = 1000
_KEY_IDS = 100_000
_GENERATED_IDS = 200_000
_WORD = re.compile(r"\S+")
_WRITTEN = re.compile(r"\d+\.(\d+)")


@dataclass(frozen=True, slots=True)
class Prompt:
    """`ids` are the tokens of the prompt, text that is to be continued included."""

    key: int
    ids: list[int]


def word_id(word: str) -> int:
    """A generated word gets back the id that it was generated with."""
    if word.isdecimal() and len(word) < 4:
        return _KEY_IDS + int(word)
    if written := _WRITTEN.fullmatch(word):
        return _GENERATED_IDS + int(written[1])
    return crc32(word.encode()) % _KEY_IDS


def token_id(position: int) -> int:
    return _GENERATED_IDS + position


def token_text(key: int, position: int) -> str:
    return f" {key}.{position}"


def read_prompt(body: Mapping[str, object]) -> Prompt:
    """Of a request for a completion (text or token ids) or a chat."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        ids = [int(item) for item in prompt]
    else:
        ids = [word_id(word) for word in _WORD.findall(prompt if isinstance(prompt, str) else _said(body))]
    return Prompt(_key(ids), ids)


def text_of(key: int, prompt_tokens: int, count: int) -> str:
    """All that the model says to a prompt of that many tokens."""
    return "".join(token_text(key, prompt_tokens + index) for index in range(count))


def _said(body: Mapping[str, object]) -> str:
    messages = body.get("messages")
    contents = (
        [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    )
    return " ".join(content for content in contents if isinstance(content, str))


def _key(ids: Sequence[int]) -> int:
    return next((item - _KEY_IDS for item in ids if _KEY_IDS <= item < _KEY_IDS + KEYS), 0)
