"""Waiting for AWS: as long as the size asks for, and resumable when that was not enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from images.clock import Clock
from images.errors import WaitTimedOut

T = TypeVar("T")

_LEAST_S = 900.0
_PER_GIB_S = 60.0
"""A first snapshot of a full disk has been seen to take 30-60 s/GiB (packer#8415, eks-ami PR#1871)."""
_FIRST_LOOK_S = 2.0
_SLOWEST_LOOK_S = 30.0


def image_limit_s(disk_gib: float, most_s: float) -> float:
    """How long an image of that size may take, in seconds."""
    return min(most_s, _LEAST_S + _PER_GIB_S * disk_gib)


def wait_for(what: str, look: Callable[[], T | None], clock: Clock, *, limit_s: float, run_id: str) -> T:
    """What `look` finds, looked for less and less often. Raises WaitTimedOut after `limit_s` seconds."""
    ends = clock.now() + limit_s
    pause = _FIRST_LOOK_S
    while True:
        found = look()
        if found is not None:
            return found
        if clock.now() >= ends:
            raise WaitTimedOut(
                f"waited {limit_s / 60:.0f} minutes for {what}",
                f"AWS goes on with it; continue with: images bake --resume {run_id}",
            )
        clock.sleep(min(pause, max(0.0, ends - clock.now())))
        pause = min(pause * 1.5, _SLOWEST_LOOK_S)
