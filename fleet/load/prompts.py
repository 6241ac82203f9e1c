"""Prompts of about so many tokens, none of which begins like another: a prefix cache must not help."""

from __future__ import annotations

import random

_TEXT = (
    "a golden image shortens the way from launch to first token while spot nodes come and go and no client "
    "ever notices because another node carries on with what was begun"
)


class Prompts:
    """`words_per_token` is measured with the model that is asked; text comes from `chance` alone."""

    def __init__(self, words_per_token: float, chance: random.Random) -> None:
        self._words_per_token = words_per_token
        self._chance = chance

    def of(self, tokens: int) -> str:
        words = max(1, round(tokens * self._words_per_token))
        return " ".join(
            [f"{self._chance.getrandbits(20):x}", *self._chance.choices(_TEXT.split(), k=words - 1)]
        )
