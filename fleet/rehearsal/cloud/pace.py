"""How fast an instance refresh goes, and when it stops to be looked at: pure decisions.

"RefreshPreferences" in the Auto Scaling API reference: percentages are of the desired capacity; where both
are given and allow no replacement, one instance is launched before another ends, beyond the maximum; where
the maximum is left out, one ends and is replaced at the same time. "Add checkpoints to an instance refresh"
(user guide): a checkpoint is reached when that share of the group is new, and one that a later one overtakes
is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DEFAULT_MIN_HEALTHY = 90
DEFAULT_CHECKPOINT_DELAY = 3600


class Healthy(NamedTuple):
    """Percentages of the desired capacity."""

    least: int
    most: int | None
    """None where nobody gave it, which is not the same as 100."""

    def floor(self, desired: int) -> int:
        """Instances that stay in service."""
        return math.ceil(desired * self.least / 100)


class Batch(NamedTuple):
    """Old instances to replace now."""

    launch_first: int = 0
    """They serve until their replacements do."""
    end_first: int = 0


def next_batch(desired: int, settled: int, replaceable: int, healthy: Healthy) -> Batch:
    """`settled` instances serve, old and new; `replaceable` is how many old ones may go now."""
    room = math.floor(desired * (healthy.most or 100) / 100) - desired
    if not replaceable:
        return Batch()
    if room > 0:
        return Batch(launch_first=min(replaceable, room))
    if settled < desired:
        return Batch()
    spare = settled - healthy.floor(desired)
    if spare > 0:
        return Batch(end_first=min(replaceable, spare))
    return Batch(end_first=1) if healthy.most is None else Batch(launch_first=1)


def share(desired: int, percent: int) -> int:
    """Instances of a group that must be new to reach a checkpoint."""
    return math.ceil(desired * percent / 100)


def reached(checkpoints: Sequence[int], desired: int, new: int) -> int:
    """How many checkpoints `new` settled instances have reached."""
    return sum(1 for percent in checkpoints if new >= share(desired, percent))


def quota(checkpoints: Sequence[int], desired: int, new: int) -> int:
    """How many more instances may be replaced before somebody looks at the group."""
    ahead = [share(desired, percent) for percent in checkpoints if share(desired, percent) > new]
    return ahead[0] - new if ahead else 0
