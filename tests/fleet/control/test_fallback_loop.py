"""The thread that looks at every tier beside the loop over the queue."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable

import pytest

from fleet.control.fallback_loop import FallbackLoop
from fleet.control.log import Log


class Counted:
    """Counts looks; the first ones end as `outcomes` say."""

    def __init__(self, *outcomes: float | Exception | None) -> None:
        self.looks = threading.Semaphore(0)
        self._outcomes = list(outcomes)

    def run(self, now: float) -> float | None:
        assert now == 5.0
        self.looks.release()
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def looping(fallback: Counted, out: io.StringIO | None = None) -> FallbackLoop:
    return FallbackLoop(fallback, Log(out or io.StringIO()), lambda: 5.0, period_s=3600.0)


def test_a_look_that_meets_a_bug() -> None:
    """It is told, and the next look comes all the same."""
    fallback, out = Counted(ValueError("a bug")), io.StringIO()
    with looping(fallback, out) as loop:
        assert fallback.looks.acquire(timeout=10)
        loop.soon(5.0)
        assert fallback.looks.acquire(timeout=10)
    assert json.loads(out.getvalue())["error"] == "ValueError: a bug"


@pytest.mark.parametrize(
    "wake", [lambda loop: loop.soon(5.0), lambda _loop: None], ids=["a notice", "what the last look said"]
)
def test_a_look_before_the_period(wake: Callable[[FallbackLoop], None]) -> None:
    """A notice, or a shortage that is too young to act on, brings the next look forward."""
    fallback = Counted(0.0)
    with looping(fallback) as loop:
        assert fallback.looks.acquire(timeout=10)
        wake(loop)
        assert fallback.looks.acquire(timeout=10)


def test_the_end() -> None:
    """It does not wait for the period."""
    fallback = Counted()
    with looping(fallback):
        assert fallback.looks.acquire(timeout=10)
    assert not fallback.looks.acquire(blocking=False)
