"""Every error that deploying raises on purpose.

GoldenfleetError
+-- DeployError
    +-- EndpointRefusedError   the rehearsal's engine was pointed at something that is not on this machine
    +-- PulumiMissingError     there is no pulumi executable
    +-- PulumiFailedError      pulumi ran, and failed; its own errors are told
    +-- PoliciesForbidError    a mandatory policy is violated
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError
from fleet.policy.evaluate import Violation


class DeployError(GoldenfleetError):
    """A stack cannot be deployed. `violations` are of the policies, where some are behind it."""

    def __init__(self, message: str, hint: str = "", violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message, hint)
        self.violations = violations


class EndpointRefusedError(DeployError):
    """The rehearsal's engine was pointed at something that is not on this machine."""


class PulumiMissingError(DeployError):
    """There is no pulumi executable."""


class PulumiFailedError(DeployError):
    """Pulumi ran, and failed."""


class PoliciesForbidError(DeployError):
    """A mandatory policy is violated."""
