"""What samples add up to."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.load.figures import Figures, Percentiles, Tally, Times
from fleet.load.sample import Sample
from fleet.load.words import describe

WELL = Sample(0.0, "ok", 0.001, 0.2, 1.2, (0.5, 0.5), 100, 3, 1, 0)


def percentiles(values: Iterable[float | None]) -> Percentiles:
    times = Times()
    for value in values:
        times.add(value)
    return times.percentiles()


def figures(samples: Iterable[Sample], offered_rate: float, seconds: float) -> Figures:
    tally = Tally()
    for sample in samples:
        tally.add(sample)
    return tally.figures(offered_rate, seconds)


@given(st.lists(st.floats(1e-6, 3000), min_size=1, max_size=200))
def test_percentiles_are_exact_to_three_digits(values) -> None:
    """Each is a value that was measured, to a thousandth, and they grow."""
    found = percentiles(values)
    shown = [found.p50, found.p90, found.p95, found.p99, found.p999, found.max]
    assert shown == sorted(shown)
    assert found.max == pytest.approx(max(values), rel=2e-3, abs=2e-6)
    assert found.p50 == pytest.approx(sorted(values)[-(-len(values) // 2) - 1], rel=2e-3, abs=2e-6)


def test_percentiles_of_a_known_distribution() -> None:
    """Of an exponential one: -ln(1 - p) times its mean, up to the sample's own error."""
    chance = random.Random(1)
    found = percentiles(chance.expovariate(1 / 0.2) for _ in range(50_000))
    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.95, found.p95), (0.99, found.p99)):
        assert value == pytest.approx(-math.log(1 - share) * 0.2, rel=0.03)
    assert found.p999 == pytest.approx(-math.log(0.001) * 0.2, rel=0.1)


def test_each_percentile_is_the_one_it_is_called() -> None:
    """Of a thousand even steps up to a second, each is its own share."""
    found = percentiles(step / 1000 for step in range(1, 1001))
    shares = [found.p50, found.p90, found.p95, found.p99, found.p999, found.max]
    assert shares == pytest.approx([0.5, 0.9, 0.95, 0.99, 0.999, 1.0], abs=1e-3)


def test_what_was_not_measured_is_left_out() -> None:
    """Of nothing there are zeros, and None counts nowhere; people are shown that there is nothing."""
    assert percentiles([None]) == Percentiles(0, *[0.0] * 6)
    assert percentiles([None, 1.0]).count == 1
    lost = figures([Sample(0.0, "lost", attempts=1)], 1.0, 1.0)
    ttft = next(line for line in describe([lost]).splitlines() if "ttft" in line)
    assert ttft.split()[1:7] == ["-"] * 6


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


def test_why_requests_fail_is_told() -> None:
    """Each reason once, with how often, however the requests are called; all refused is no success."""
    refused = [
        Sample(
            0.0, "refused", attempts=1, error=f"InvalidRequest: HTTP 400: too long (request {n}, attempts 1)"
        )
        for n in range(70)
    ]
    others = [Sample(0.0, "refused", attempts=1, error=f"InvalidRequest: {n}") for n in range(200)]
    found = figures([*refused, *others], 1.0, 1.0)
    assert next(iter(found.errors.items())) == ("InvalidRequest: HTTP 400: too long", 70)
    assert len(found.errors) == 3
    assert not found.good
    assert "  70 x InvalidRequest: HTTP 400: too long" in describe([found]).splitlines()
    assert describe([found]).endswith("all refused at a rate: nothing was measured.")
    assert figures([WELL, *refused], 1.0, 1.0).good


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
