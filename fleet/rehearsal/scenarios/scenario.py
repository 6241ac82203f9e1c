"""A running fleet under load, and a story that is played on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fleet.rehearsal.cloud import Cloud
    from fleet.rehearsal.engine import PulumiEngine
    from fleet.rehearsal.nodes import Nodes
    from fleet.rehearsal.plan import Checked
    from fleet.rehearsal.processes import Processes
    from fleet.rehearsal.progress import Progress
    from fleet.rehearsal.watch import Watch


@dataclass(frozen=True)
class Stage:
    """All that a scenario may use. Clients ask and read while it plays."""

    checked: Checked
    cloud: Cloud
    nodes: Nodes
    pulumi: PulumiEngine
    outputs: Mapping[str, Any]
    """Of the Pulumi program, as of the last `up` before the scenario."""
    processes: Processes
    watch: Watch
    progress: Progress
    run_dir: Path
    endpoint: str
    follow_load: Callable[[], None]
    """From then on the groups scale by what the nodes really do."""

    def group(self, tier: str) -> str:
        """The Auto Scaling group of a tier."""
        return str(self.outputs["tiers"][tier]["autoScalingGroup"])


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario. A scenario that does not come to its end raises instead."""

    scenario: str
    lines: tuple[str, ...]
    """For people, each of at most 100 columns."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """For `--json`; seconds are real ones, with names that end in `_s`."""


class Scenario(Protocol):
    """One story."""

    @property
    def config(self) -> Mapping[str, str]:
        """Overrides of the stack's settings that the story needs, KEY -> JSON."""

    def check(self, checked: Checked) -> None:
        """Raise ImpossibleError, before anything starts, where the story cannot be played."""

    def play(self, stage: Stage) -> Outcome:
        """Raises NotInTimeError, or RehearsalError where the fleet did not do what it must."""
