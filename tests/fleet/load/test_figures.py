"""What samples add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.load.figures import figures, percentiles
from fleet.load.sample import Sample
from fleet.load.words import describe

WELL = Sample(0.0, "ok", 0.001, 0.2, 1.2, (0.5, 0.5), 100, 3, 1, 0)


@given(st.lists(st.floats(1e-6, 3000), min_size=1, max_size=200))
def test_percentiles_are_exact_to_three_digits(values) -> None:
    """Each is a value that was measured, to a thousandth, and they grow."""
    found = percentiles(values)
    shown = [found.p50, found.p90, found.p95, found.p99, found.p999, found.max]
    assert shown == sorted(shown)
    assert found.max == pytest.approx(max(values), rel=2e-3, abs=2e-6)
    assert found.p50 == pytest.approx(sorted(values)[-(-len(values) // 2) - 1], rel=2e-3, abs=2e-6)


def test_what_was_not_measured_is_left_out() -> None:
    """Of nothing there are zeros, and None counts nowhere."""
    assert percentiles([None]).count == 0
    assert percentiles([None, 1.0]).count == 1


def test_outcomes_are_counted_and_only_good_ones_timed() -> None:
    """Lost, refused and unsent requests have no latency; tokens of cut streams were produced all the same."""
    cut = Sample(1.0, "truncated", ttft_s=9.0, output_tokens=2, attempts=3, error="cut")
    resumed = Sample(2.0, "ok", 0.0, 0.2, 1.2, (), 100, 5, 2, 1)
    samples = [WELL, cut, resumed, Sample(3.0, "unsent"), Sample(3.0, "refused", attempts=1)]
    found = figures(samples, offered_rate=2.5, seconds=2.0)
    assert (found.sent, found.ok, found.truncated, found.refused, found.unsent) == (4, 2, 1, 1, 1)
    assert (found.resumed, found.retried, found.failed) == (1, 1, 1)
    assert (found.finished_rate, found.output_tokens_rate, found.prompt_tokens_rate) == (1.0, 5.0, 100.0)
    assert found.ttft.max < 1


def test_time_per_token_leaves_the_first_out() -> None:
    """Two tokens in the second after the first are half a second each."""
    assert WELL.per_token_s == pytest.approx(0.5)
    assert Sample(0.0, "ok", ttft_s=1.0, total_s=1.0, output_tokens=1).per_token_s is None


def test_a_generator_that_is_the_limit_says_so() -> None:
    """Requests that left late are blamed on this process; few columns are enough for all of it."""
    late = Sample(0.0, "ok", 0.3, 0.5, 0.6, (), 10, 2, 1, 0)
    told = describe([figures([late, Sample(0.0, "unsent")], 1.0, 1.0)])
    assert "this process is a limit" in told
    assert "raise --most-at-once" in told
    assert max(map(len, told.splitlines())) <= 110
