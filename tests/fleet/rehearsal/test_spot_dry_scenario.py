"""What the scenario of a dry spot market refuses, and what it tells of decisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.rehearsal.errors import ImpossibleError
from fleet.rehearsal.plan import Checked, Plan, check
from fleet.rehearsal.ports import free_port
from fleet.rehearsal.scenarios.spot_dry import in_words
from fleet.stack.settings import load_settings

PROJECT = Path(__file__).parents[3]


def checked(**changes: Any) -> Checked:
    """A plan that plays it, with changes to every tier."""
    asked = load_settings(PROJECT, "rehearsal").with_desired({})
    tiers = [{**tier, **changes} for tier in json.loads(asked["goldenfleet:tiers"])]
    config = {"goldenfleet:tiers": json.dumps(tiers)}
    port = free_port("127.0.0.1")
    return check(Plan(PROJECT, interrupt="none", scenarios=("spot-dry",), port=port, config=config))


def test_a_fleet_that_can_play_it() -> None:
    """The rehearsal's own settings will do."""
    assert checked().told()["scenarios"] == ["spot-dry"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fallback": {"enabled": False}}, "does not fall back"),
        ({"fallback": {"most": 1}}, "may not be all on demand"),
        ({"purchase": {"instanceTypes": ["c7i.large"], "onDemandBase": 4}}, "no tier has a spot node"),
    ],
)
def test_a_fleet_that_cannot(changes: dict[str, Any], says: str) -> None:
    """It is refused before anything starts, with what to change."""
    with pytest.raises(ImpossibleError, match=says) as caught:
        checked(**changes)
    assert caught.value.hint


def test_a_decision_in_words() -> None:
    """A change of the base and a wait are told apart, in a line that fits."""
    said = {"tier": "model", "base_before": 1, "base_after": 3, "on_demand": 1, "spot": 0, "desired": 3}
    told = in_words({**said, "why": "2 of spot missing"})
    assert told == "model base 1 -> 3: 2 of spot missing; 1 on demand and 0 spot of 3"
    assert in_words({**said, "base_after": 1, "why": "w"}).startswith("model stays 1: w")
    assert len(told) + len(" 100.0 s  ") <= 100
