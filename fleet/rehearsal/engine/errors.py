"""Every error that running the Pulumi program raises on purpose.

GoldenfleetError
+-- DeploymentError
    +-- ProjectError            Pulumi.yaml or a stack's file is missing or cannot be used
    +-- ProgramError            the program itself failed; its traceback's end is told
    +-- ResourceFailedError     one resource was refused; what was made before it is in the state
    +-- StateError              the state file cannot be used
        +-- StateLockedError    another run is using it
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class DeploymentError(GoldenfleetError):
    """The program could not be applied."""


class ProjectError(DeploymentError):
    """Pulumi.yaml or a stack's file is missing or cannot be used."""


class ProgramError(DeploymentError):
    """The program itself failed."""


class ResourceFailedError(DeploymentError):
    """One resource was refused; what was made before it is in the state."""


class StateError(DeploymentError):
    """The state file cannot be used."""


class StateLockedError(StateError):
    """Another run is using the state file."""
