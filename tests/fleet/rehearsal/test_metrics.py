from __future__ import annotations

from fleet.rehearsal.metrics import Rate


def test_first_look() -> None:
    """One look is no rate, nor are two that are too close."""
    rate = Rate(least_s=1.0)
    assert rate.look(5.0, 10.0) is None
    assert rate.look(9.0, 10.5) is None


def test_rate() -> None:
    """The rate is the growth a second since the look before, and stays until the next is far enough."""
    rate = Rate(least_s=1.0)
    rate.look(5.0, 10.0)
    assert rate.look(9.0, 12.0) == 2.0
    assert rate.look(100.0, 12.5) == 2.0
    assert rate.look(15.0, 14.0) == 3.0
