"""What a rehearsal can play beside interruptions: longer stories, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.rehearsal.errors import UnknownScenarioError
from fleet.rehearsal.scenarios.rollout import Rollout
from fleet.rehearsal.scenarios.scaling import Scaling
from fleet.rehearsal.scenarios.scenario import Outcome, Scenario, Stage
from fleet.rehearsal.scenarios.spot_dry import SpotDry

__all__ = ["SCENARIOS", "Outcome", "Scenario", "Stage", "named"]

SCENARIOS: Mapping[str, Scenario] = {"rollout": Rollout(), "scaling": Scaling(), "spot-dry": SpotDry()}


def named(names: tuple[str, ...], scenarios: Mapping[str, Scenario] = SCENARIOS) -> tuple[Scenario, ...]:
    """Raises UnknownScenarioError."""
    unknown = [name for name in names if name not in scenarios]
    if unknown:
        raise UnknownScenarioError(
            f"there is no scenario {unknown[0]!r}", f"Use one of: {', '.join(sorted(scenarios))}."
        )
    return tuple(scenarios[name] for name in names)
