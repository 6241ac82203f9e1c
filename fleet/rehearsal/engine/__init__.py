"""Runs the project's Pulumi program, unmodified, over Pulumi's own wire protocol."""

from fleet.rehearsal.engine.errors import (
    DeploymentError,
    ProgramError,
    ProjectError,
    ResourceFailedError,
    StateError,
    StateLockedError,
)
from fleet.rehearsal.engine.pulumi_engine import PulumiEngine
from fleet.rehearsal.engine.steps import Declared, Result, Step
from fleet.rehearsal.engine.warm import WarmHost

__all__ = [
    "Declared",
    "DeploymentError",
    "ProgramError",
    "ProjectError",
    "PulumiEngine",
    "ResourceFailedError",
    "Result",
    "StateError",
    "StateLockedError",
    "Step",
    "WarmHost",
]
