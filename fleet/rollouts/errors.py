"""Every error that rollouts raise on purpose.

GoldenfleetError
+-- RolloutError
    +-- RolloutRefused   1  AWS did not do as asked
    +-- NotOver          9  something went on for longer than anybody waits
    +-- NothingRuns      6  there is no rollout to cancel or to roll back
    +-- NoSuchTier       6  the stack has no such tier
"""

from __future__ import annotations

from typing import ClassVar

from fleet.errors import GoldenfleetError


class RolloutError(GoldenfleetError):
    """Anything that rollouts raise on purpose."""

    exit_code: ClassVar[int | None] = 1


class RolloutRefused(RolloutError):
    """AWS did not do as asked."""


class NotOver(RolloutError):
    """Something went on for longer than anybody waits."""

    exit_code = 9


class NothingRuns(RolloutError):
    """There is no rollout to cancel or to roll back; the hint says what to do instead."""

    exit_code = 6


class NoSuchTier(RolloutError):
    """The stack has no such tier."""

    exit_code = 6
