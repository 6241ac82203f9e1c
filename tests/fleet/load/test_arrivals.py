"""When requests leave."""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.load.arrivals import PATTERNS, Lengths, arrivals

LENGTHS = Lengths(10, 5)


def gaps(pattern: str) -> list[float]:
    found = arrivals(pattern, 10, 1000, LENGTHS, random.Random(1))
    return [after.at_s - before.at_s for before, after in pairwise(found)]


@given(st.sampled_from(sorted(PATTERNS)), st.floats(0.1, 50), st.floats(0.1, 20), st.integers(0, 2**32))
def test_requests_leave_in_order_and_in_time(pattern, rate, duration, seed) -> None:
    """Moments grow and lie within the duration."""
    moments = [each.at_s for each in arrivals(pattern, rate, duration, LENGTHS, random.Random(seed))]
    assert moments == sorted(moments)
    assert all(0 < moment < duration for moment in moments)


@pytest.mark.parametrize(("rate", "moments"), [(2.0, [0.5, 1.0]), (1.0, [1.0]), (0.5, [])])
def test_the_first_request_leaves_after_a_gap(rate, moments) -> None:
    """As every other does; the end of the duration is past it."""
    found = arrivals("steady", rate, 1.5 if rate > 1 else 2.0, LENGTHS, random.Random(1))
    assert [each.at_s for each in found] == moments


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_every_pattern_keeps_the_rate(pattern) -> None:
    """On average as many requests leave as were asked for."""
    assert statistics.mean(gaps(pattern)) == pytest.approx(0.1, rel=0.06)


def test_patterns_differ_in_how_uneven_they_are() -> None:
    """Steady gaps are equal, Poisson's deviate by their mean, bursty ones by twice that."""
    uneven = {name: statistics.pstdev(gaps(name)) / 0.1 for name in PATTERNS}
    assert uneven == {
        "steady": pytest.approx(0, abs=1e-6),
        "poisson": pytest.approx(1, rel=0.1),
        "bursty": pytest.approx(2, rel=0.1),
    }


def test_a_seed_repeats_a_load() -> None:
    """The same seed gives the same moments, another gives others."""
    first, again, other = (arrivals("poisson", 5, 10, LENGTHS, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again != other
