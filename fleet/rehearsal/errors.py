"""Every error that a rehearsal raises on purpose.

GoldenfleetError
+-- RehearsalError
    +-- PortInUse           something else listens where the rehearsal must
    +-- ProcessFailed       a process of the rehearsal did not start, or ended on its own
    +-- NotInTime           what was waited for did not come before its deadline
    +-- Impossible          an interruption was asked for that the fleet cannot have
    +-- LeftBehind          something outlived the rehearsal
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class RehearsalError(GoldenfleetError):
    """A rehearsal cannot start or go on."""


class PortInUse(RehearsalError):
    """Something else listens where the rehearsal must."""


class ProcessFailed(RehearsalError):
    """A process of the rehearsal did not start, or ended on its own."""


class NotInTime(RehearsalError):
    """What was waited for did not come before its deadline."""


class Impossible(RehearsalError):
    """An interruption was asked for that the fleet cannot have."""


class LeftBehind(RehearsalError):
    """Something outlived the rehearsal."""
