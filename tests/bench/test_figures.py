import pytest

from bench.figures import best, medians, quantile, ratio, slope
from bench.machine import CpuTimes
from bench.soak import judged


def test_quantiles_are_values_that_were_seen() -> None:
    """The nearest rank; of nothing it is 0."""
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert quantile([], 0.5) == 0.0


def test_medians_are_of_each_figure() -> None:
    """One odd run does not move them."""
    assert medians([{"a": 1, "b": 9}, {"a": 100, "b": 8}, {"a": 2, "b": 7}]) == {"a": 2, "b": 8}
    assert medians([]) == {}


@pytest.mark.parametrize(("lower", "expected"), [(True, 2.0), (False, 3.0)])
def test_what_was_not_measured_is_not_the_best(lower: bool, expected: float) -> None:
    """Zero is no measurement."""
    assert best([0.0, 3.0, 2.0], lower_is_better=lower) == expected
    assert best([0.0], lower_is_better=lower) is None


def test_a_ratio_needs_both_sides() -> None:
    """Without one of them there is none."""
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(None, 4.0) is None
    assert ratio(1.0, 0.0) is None


def test_the_slope_is_growth_per_second() -> None:
    """Of points on a line it is the line's."""
    assert slope([(0, 5), (1, 7), (2, 9)]) == pytest.approx(2)
    assert slope([(0, 5)]) == 0


def test_warm_up_is_no_growth() -> None:
    """Memory that is taken in the first third and kept is flat; memory that goes on growing is not."""
    mib = 1024 * 1024
    flat = judged([(t, (10 + min(t, 20)) * mib) for t in range(60)])
    leaking = judged([(t, (10 + t) * mib) for t in range(60)])

    assert flat["growth_mib"] == 0
    assert leaking["growth_mib"] == pytest.approx(20)
    assert leaking["slope_kib_per_min"] == pytest.approx(60 * 1024)


def test_steal_is_told_from_use() -> None:
    """Time that the host took counts as used, and is said by itself."""
    before = CpuTimes.read("cpu  100 0 100 800 0 0 0 0 0 0\n")
    after = CpuTimes.read("cpu  150 0 150 850 0 0 0 50 0 0\n")

    assert after.shares_since(before) == (0.75, 0.25)
