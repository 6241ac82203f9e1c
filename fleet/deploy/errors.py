"""Every error that deploying raises on purpose.

GoldenfleetError
+-- DeployError
    +-- EndpointRefusedError   the rehearsal's engine was pointed at something that is not on this machine
    +-- PulumiMissingError     there is no pulumi executable
    +-- PulumiFailedError      pulumi ran, and failed; its own errors are told
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class DeployError(GoldenfleetError):
    """A stack cannot be deployed."""


class EndpointRefusedError(DeployError):
    """The rehearsal's engine was pointed at something that is not on this machine."""


class PulumiMissingError(DeployError):
    """There is no pulumi executable."""


class PulumiFailedError(DeployError):
    """Pulumi ran, and failed."""
