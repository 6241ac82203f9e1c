"""Steps: pure generators of the commands that turn a bare machine into one that can be imaged."""

from images.steps.command import (
    Action,
    Command,
    Facts,
    MachineQuirks,
    Materials,
    NamedStep,
    Upload,
)

__all__ = ["Action", "Command", "Facts", "MachineQuirks", "Materials", "NamedStep", "Upload"]
