"""Which token comes next. Greedy is the default; in sampling, chance is a function of seed and position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.engine.weights import Matrix

SEED_LIMIT = 2**64

# Dividing by less would overflow; vLLM draws the same line.
_GREEDY_BELOW = 1e-5


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 is greedy; `top_k` 0 keeps every token; `seed` is below SEED_LIMIT."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


def next_token(logits: Matrix, sampling: Sampling, position: int) -> int:
    """`position` is the token's place from the start of the prompt, so that a continuation draws the same."""
    if sampling.temperature < _GREEDY_BELOW:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    kept = _likely(logits[order].astype(np.float64) / sampling.temperature, sampling)
    chosen = np.searchsorted(np.cumsum(kept), _uniform(sampling.seed, position) * kept.sum(), side="right")
    return int(order[min(int(chosen), len(kept) - 1)])


def _likely(scores: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """Probabilities, in falling order, of the tokens that top_k and top_p leave; at least one."""
    probability: NDArray[np.float64] = np.exp(scores - scores[0])
    probability /= probability.sum()
    before = np.cumsum(probability) - probability
    keep = max(1, int(np.count_nonzero(before < sampling.top_p)))
    return probability[: min(keep, sampling.top_k or keep)]


def _uniform(seed: int, position: int) -> float:
    key = np.array([seed, position], np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())
