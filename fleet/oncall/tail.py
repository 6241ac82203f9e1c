"""What comes, told once: the same look again and again, each a little back in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, TypeVar

from fleet.oncall.terminal import LookingOn

LATE_S: Final = 30.0
"""How late a line may come into its log and still be told; CloudWatch Logs gives no order either."""

T = TypeVar("T")


def follow(
    read: Callable[[float], Sequence[T]],
    since: float,
    key: Callable[[T], Hashable],
    every_s: float,
    *,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[list[T]]:
    """For ever: what `read` has anew, from a time (unix seconds) on. Raises what its first look raises; where
    AWS fails later on, throttles perhaps, the next look is another chance and goes back as far."""
    looking, told = LookingOn(), set[Hashable]()
    looked_at, there = clock(), read(since)
    while True:
        yield [one for one in there if key(one) not in told]
        # Of what was told before, only that can come again which this look had, too: none begins earlier.
        told = {key(one) for one in there}
        since = max(since, looked_at - LATE_S)
        pause(every_s)
        now = clock()
        with looking.on():
            there, looked_at = read(since), now
