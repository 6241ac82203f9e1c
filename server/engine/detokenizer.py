"""Tokens to text as they come: nothing is released that a later token could still change.

Token ids are released with their text and never without it, so whoever has the released ids can continue from
them and loses or doubles no text.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from server.engine.tokenizer import Tokenizer

FinishReason = Literal["stop", "length"]

_UTF8_LEAD = 0xC0
_LONGEST_PARTIAL = 3


@dataclass(frozen=True)
class Delta:
    """Text that is final, and the ids of the tokens that it came from."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class _Held:
    token: int
    text_end: int
    whole: bool


class Detokenizer:
    """One sequence's text. The prompt's last bytes may begin a character whose end is still to come."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder.decode(_partial_character(tokenizer, prompt))
        self._text = ""
        self._held: list[_Held] = []

    def push(self, token: int) -> Delta | None:
        """What the token makes final: None while everything is held back; finished on a stop string."""
        self._text += self._decoder.decode(self._tokenizer.bytes_of(token))
        whole = not self._decoder.getstate()[0]
        self._held.append(_Held(token, len(self._text), whole))
        stop_at = self._stop_position()
        if stop_at is not None:
            return self._release_all(stop_at, "stop")
        return self._release_safe()

    def finish(self, reason: FinishReason) -> Delta:
        """Releases everything but the bytes of an unfinished character, which a continuation will write."""
        return self._release_all(len(self._text), reason)

    def _stop_position(self) -> int | None:
        found = [at for stop in self._stops if (at := self._text.find(stop)) >= 0]
        return min(found, default=None)

    def _release_safe(self) -> Delta | None:
        safe = len(self._text) - self._possible_stop()
        count = max(
            (n for n, held in enumerate(self._held, 1) if held.whole and held.text_end <= safe), default=0
        )
        if not count:
            return None
        end = self._held[count - 1].text_end
        delta = Delta(self._text[:end], tuple(held.token for held in self._held[:count]))
        self._text = self._text[end:]
        self._held = [_Held(held.token, held.text_end - end, held.whole) for held in self._held[count:]]
        return delta

    def _possible_stop(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        return max(
            (n for stop in self._stops for n in range(1, len(stop)) if self._text.endswith(stop[:n])),
            default=0,
        )

    def _release_all(self, end: int, reason: FinishReason) -> Delta:
        delta = Delta(self._text[:end], tuple(held.token for held in self._held), reason)
        self._text, self._held = "", []
        return delta


def _partial_character(tokenizer: Tokenizer, prompt: Sequence[int]) -> bytes:
    """The prompt's last bytes from the last lead byte on, when a character may still be open there."""
    tail = b""
    for token in reversed(prompt):
        if len(tail) >= _LONGEST_PARTIAL:
            break
        tail = tokenizer.bytes_of(token) + tail
    tail = tail[-_LONGEST_PARTIAL:]
    leads = [at for at, value in enumerate(tail) if value >= _UTF8_LEAD]
    return tail[leads[-1] :] if leads else b""
