"""Adaptive concurrency: what the wait for first tokens does to the limit. Pure, on a clock of its own."""

import pytest

from server.admission.gradient import Bounds, Gradient

BOUNDS = Bounds(floor=8, initial=64, ceiling=256)


class Fleet:
    """Feeds a gradient as if `waiting` requests waited `seconds` each, for a number of half seconds."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.gradient = Gradient(bounds)
        self.now = 0.0

    def run(self, windows: int, seconds: float, waiting: int | None = None, samples: int = 20) -> int:
        for _ in range(windows):
            self.now += 0.5
            for _ in range(samples):
                self.gradient.sample(seconds, waiting or self.gradient.limit, self.now)
        return self.gradient.limit


def test_a_steady_wait_lets_the_limit_grow_to_its_ceiling() -> None:
    """As long as more requests at once do not make each wait longer, more are let in."""
    fleet = Fleet()
    assert fleet.run(100, 0.2) > 64
    assert fleet.run(1000, 0.2) == 256


def test_a_wait_that_grows_lowers_the_limit() -> None:
    """Engines that queue show it in the time to the first token."""
    fleet = Fleet()
    before = fleet.run(50, 0.2)
    assert fleet.run(5, 2.0) < before


def test_the_limit_never_leaves_its_bounds() -> None:
    """Whatever is seen, the floor is let in: a fault of the signal must not close the gateway."""
    fleet = Fleet()
    fleet.run(20, 0.01)
    assert fleet.run(40, 60.0) >= 8
    for _ in range(200):
        fleet.now += 1
        fleet.gradient.refused(fleet.now)
    assert fleet.gradient.limit == 8


def test_an_idle_gateway_learns_no_limit() -> None:
    """With less than half of the places in use the wait says nothing of how many there may be."""
    fleet = Fleet()
    fleet.run(20, 0.2, waiting=4)
    assert fleet.run(20, 5.0, waiting=4) == 64


def test_a_few_slow_requests_do_not_count() -> None:
    """Some long prompts, or requests whose node was lost, are no overload: the median says what is."""
    fleet = Fleet()
    before = fleet.run(20, 0.2)
    for _ in range(20):
        fleet.run(1, 30.0, samples=4)
        fleet.run(1, 0.2, samples=6)
    assert fleet.gradient.limit > before


def test_twice_the_wait_is_within_tolerance_only_up_to_half_as_much_again() -> None:
    """Up to 1.5 times the usual wait is noise."""
    fleet = Fleet()
    before = fleet.run(30, 0.2)
    assert fleet.run(1, 0.29) >= before


def test_the_limit_comes_back_when_the_load_is_over() -> None:
    """What overload taught is forgotten once the wait is short again."""
    fleet = Fleet()
    fleet.run(50, 0.2)
    low = fleet.run(30, 3.0)
    assert fleet.run(300, 0.2) > max(low, 64)


def test_refusals_lower_the_limit_once_a_window_and_answers_bring_it_back() -> None:
    """Where answers come whole there is no wait to see: AIMD, no further up than where it began."""
    gradient = Gradient(BOUNDS)
    for _ in range(10):
        gradient.refused(0.1)
    assert gradient.limit == 57
    gradient.refused(1.0)
    assert gradient.limit == 51
    for _ in range(5000):
        gradient.answered()
    assert gradient.limit == 64


def test_the_typical_wait_is_unknown_until_it_was_seen() -> None:
    """Before that nothing is assumed of it."""
    fleet = Fleet()
    assert fleet.gradient.typical_s is None
    fleet.run(30, 0.25)
    assert fleet.gradient.typical_s == pytest.approx(0.25)
