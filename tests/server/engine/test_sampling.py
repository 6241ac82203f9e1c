"""Drawing tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from server.engine.sampling import SEED_LIMIT, Sampling, next_token

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def drawn(sampling, count=2000):
    return Counter(next_token(LOGITS, sampling, position) for position in range(count))


@pytest.mark.parametrize("temperature", [0.0, 1e-9])
def test_no_temperature_is_greedy(temperature):
    """At zero, and so close to it that division would overflow, the most likely token is taken."""
    assert drawn(Sampling(temperature=temperature), 5) == {0: 5}


def test_frequencies_follow_the_probabilities():
    """At temperature 1 tokens are drawn about as often as the model says."""
    counts = drawn(Sampling(temperature=1.0, seed=3))
    for token, share in enumerate([0.5, 0.3, 0.15, 0.05]):
        assert abs(counts[token] / 2000 - share) < 0.04


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(temperature=1, top_p=0.0), {0}),
        (Sampling(temperature=1, top_p=0.5), {0}),
        (Sampling(temperature=1, top_p=0.51), {0, 1}),
        (Sampling(temperature=1, top_p=0.9), {0, 1, 2}),
        (Sampling(temperature=1, top_k=2), {0, 1}),
        (Sampling(temperature=1, top_k=9), {0, 1, 2, 3}),
        (Sampling(temperature=1, top_k=3, top_p=0.6), {0, 1}),
    ],
)
def test_top_p_and_top_k_leave_the_most_likely(sampling, allowed):
    """top_p keeps the smallest set that reaches it, top_k as many tokens as it says, together the fewer."""
    assert set(drawn(sampling)) == allowed


def test_chance_depends_on_seed_and_position_only():
    """The same seed and position draw the same token; other seeds and positions draw others."""
    sampling = Sampling(temperature=1.0, seed=SEED_LIMIT - 1)
    row = [next_token(LOGITS, sampling, position) for position in range(50)]
    assert [next_token(LOGITS, sampling, position) for position in reversed(range(50))] == row[::-1]
    assert [next_token(LOGITS, Sampling(temperature=1.0), position) for position in range(50)] != row
    assert len(set(row)) > 1
