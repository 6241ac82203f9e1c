"""What a run did, or would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.rehearsal.engine.diff import Op


@dataclass(frozen=True)
class Step:
    op: Op
    urn: str
    type: str
    name: str
    changed: tuple[str, ...] = ()
    """Arguments that differ from what exists."""
    elapsed: float = 0.0
    """Seconds from the start of the run to the end of this step."""


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Declared:
    """One resource as the program registered it, after transforms."""

    type: str
    name: str
    urn: str
    inputs: Mapping[str, Any]
    """Arguments; secrets are hidden, and what a preview cannot know is UNKNOWN."""
    references: Mapping[str, Sequence[str]]
    """Argument -> URNs of the resources that its value comes from."""


@dataclass(frozen=True)
class Result:
    steps: tuple[Step, ...]
    outputs: Mapping[str, Any]
    """What the program exports; secrets are hidden, and what a preview cannot know is missing."""
    seconds: float
    declared: tuple[Declared, ...] = ()
    """None after a destroy, which runs no program."""

    def summary(self) -> dict[Op, int]:
        """Op -> how many resources, components included; ops that did not occur are missing."""
        return dict(Counter(step.op for step in self.steps))
