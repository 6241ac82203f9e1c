"""When requests leave, and how long they are: decided before the first of them does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

# Gaps between requests to language models vary more than a Poisson process's: BurstGPT (arXiv:2401.17644)
# fits Gamma distributions to them. At this shape their standard deviation is twice their mean.
_BURSTY_SHAPE = 0.25

# What one process can plan and remember; it sends some hundred at once.
MOST_REQUESTS: Final = 1_000_000

Gap = Callable[[random.Random], float]
"""Seconds to the next request, in means of 1."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a request: of its prompt, and the most of its answer."""

    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that leaves `at_s` seconds after the start."""

    at_s: float
    lengths: Lengths


PATTERNS: Mapping[str, Gap] = {
    "poisson": lambda chance: chance.expovariate(1.0),
    "bursty": lambda chance: chance.gammavariate(_BURSTY_SHAPE, 1 / _BURSTY_SHAPE),
    "steady": lambda _: 1.0,
}


def arrivals(
    pattern: str, rate: float, duration_s: float, lengths: Lengths, chance: random.Random
) -> tuple[Arrival, ...]:
    """`rate` requests a second on average, by one of PATTERNS, for `duration_s` seconds."""
    moments = _moments(partial(PATTERNS[pattern], chance), rate, duration_s)
    return tuple(Arrival(moment, lengths) for moment in moments)


def _moments(gap: Callable[[], float], rate: float, duration_s: float) -> Iterator[float]:
    moment = gap() / rate
    while moment < duration_s:
        yield moment
        moment += gap() / rate
