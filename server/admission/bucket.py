"""A rate: what may be taken now, and when there is more."""

from dataclasses import dataclass

MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """Holds `capacity`, and fills at `capacity` a minute. It can be overdrawn: what an answer will hold is
    known only afterwards, and whoever is in debt waits until it is paid. Times are in seconds.
    """

    capacity: int
    level: float
    at: float

    @classmethod
    def full(cls, capacity: int, now: float) -> "Bucket":
        return cls(capacity, float(capacity), now)

    def fill(self, now: float) -> float:
        """Brings the level up to `now`, and returns it."""
        if now > self.at:
            self.level = min(float(self.capacity), self.level + (now - self.at) * self.capacity / MINUTE_S)
            self.at = now
        return self.level

    def wait_s(self, cost: float) -> float:
        """How long until `cost` may be taken; 0 if it may be now. More than it holds is taken when full."""
        missing = min(cost, self.capacity) - self.level
        return max(0.0, missing * MINUTE_S / self.capacity)

    @property
    def reset_s(self) -> float:
        """How long until it is full."""
        return (self.capacity - self.level) * MINUTE_S / self.capacity
