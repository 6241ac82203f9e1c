"""How many requests may wait for their first token: Netflix's gradient2, with that wait as its signal.

https://github.com/Netflix/concurrency-limits, Gradient2Limit. What differs, and why: the sample is the
median of half a second, for one wait says more of its prompt's length, or of the loss of its node, than of
the fleet; and a refusal by the nodes lowers the limit as a loss does in AIMD.
"""

import math
from dataclasses import dataclass

_TOLERANCE = 1.5
_SMOOTHING = 0.2
_LONG_WINDOW = 600
_LEAST_SAMPLES = 10
_MOST_SAMPLES = 1000
_WINDOW_S = 0.5
_BACKOFF = 0.9


@dataclass(frozen=True, slots=True)
class Bounds:
    floor: int
    initial: int
    ceiling: int


class Gradient:
    """The limit. Times are seconds of one clock, given with each call."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._estimate = float(bounds.initial)
        self._long_s = 0.0
        self._windows = 0
        self._began = 0.0
        self._samples: list[float] = []
        self._peak = 0
        self._refused = False
        self.limit = bounds.initial

    @property
    def typical_s(self) -> float | None:
        """The wait for a first token as it has been for long; None as long as none was seen."""
        return self._long_s if self._windows else None

    def sample(self, seconds: float, waiting: int, now: float) -> None:
        """A first token came after `seconds`, with `waiting` requests waiting for theirs."""
        samples = self._samples
        if len(samples) < _MOST_SAMPLES:
            samples.append(seconds)
        if waiting > self._peak:
            self._peak = waiting
        if now >= self._began + _WINDOW_S and len(samples) >= _LEAST_SAMPLES:
            self._close(now)

    def refused(self, now: float) -> None:
        """The nodes would not take a request: they have enough under way. Counts once a window."""
        if now < self._began + _WINDOW_S and self._refused:
            return
        self._set(self._estimate * _BACKOFF)
        self._restart(now)
        self._refused = True

    def answered(self) -> None:
        """A request was answered that gives no sample: what refusals took comes back, no more."""
        if self._estimate < self._bounds.initial:
            self._set(self._estimate + 1.0 / self._estimate)

    def _close(self, now: float) -> None:
        short_s = sorted(self._samples)[len(self._samples) // 2]
        # As Netflix's: an average first, then exponential, so that the start is not believed for long.
        self._windows += 1
        factor = 2.0 / (1 + min(self._windows, _LONG_WINDOW))
        self._long_s = self._long_s * (1 - factor) + short_s * factor
        if self._long_s > 2 * short_s:
            # The load is over: what it taught is forgotten faster than it was learned.
            self._long_s *= 0.95
        if self._peak >= self._estimate / 2:
            gradient = max(0.5, min(1.0, _TOLERANCE * self._long_s / short_s)) if short_s > 0 else 1.0
            wanted = self._estimate * gradient + max(4.0, math.sqrt(self._estimate))
            self._set(self._estimate * (1 - _SMOOTHING) + wanted * _SMOOTHING)
        self._restart(now)

    def _set(self, estimate: float) -> None:
        self._estimate = min(float(self._bounds.ceiling), max(float(self._bounds.floor), estimate))
        self.limit = int(self._estimate)

    def _restart(self, now: float) -> None:
        self._began = now
        self._samples = []
        self._peak = 0
        self._refused = False
