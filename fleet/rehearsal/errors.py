"""Every error that a rehearsal raises on purpose.

GoldenfleetError
+-- RehearsalError
    +-- PortInUseError           something else listens where the rehearsal must
    +-- ProcessFailedError       a process of the rehearsal did not start, or ended on its own
    +-- NotInTimeError           what was waited for did not come before its deadline
    +-- UnknownInterruptionError no such interruption can be asked for
    +-- UnknownScenarioError     no such scenario can be asked for
    +-- ImpossibleError          an interruption was asked for that the fleet cannot have
    +-- PolicyViolatedError      the stack violates a mandatory rule of fleet/policy
    +-- LeftBehindError          something outlived the rehearsal
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class RehearsalError(GoldenfleetError):
    """A rehearsal cannot start or go on."""


class PortInUseError(RehearsalError):
    """Something else listens where the rehearsal must."""


class ProcessFailedError(RehearsalError):
    """A process of the rehearsal did not start, or ended on its own."""


class NotInTimeError(RehearsalError):
    """What was waited for did not come before its deadline."""


class UnknownInterruptionError(RehearsalError):
    """No such interruption can be asked for."""


class UnknownScenarioError(RehearsalError):
    """No such scenario can be asked for."""


class ImpossibleError(RehearsalError):
    """An interruption was asked for that the fleet cannot have."""


class PolicyViolatedError(RehearsalError):
    """The stack violates a mandatory rule of fleet/policy."""


class LeftBehindError(RehearsalError):
    """Something outlived the rehearsal."""
