"""The story of a rollout, as far as it can be told without a fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.rehearsal.errors import ImpossibleError
from fleet.rehearsal.plan import Plan, check
from fleet.rehearsal.ports import free_port
from fleet.stack.settings import load_settings

PROJECT = Path(__file__).parents[3]


def plan(**model: Any) -> Plan:
    """With other settings of the model tier."""
    settings = load_settings(PROJECT, "rehearsal")
    tiers = [tier.model_dump(mode="json", by_alias=True) for tier in settings.tiers]
    tiers[1].update(model)
    config = {"goldenfleet:tiers": json.dumps(tiers)}
    return Plan(PROJECT, port=free_port("127.0.0.1"), scenarios=("rollout",), config=config)


@pytest.mark.parametrize(
    ("model", "message"),
    [({"channel": "prod"}, "several channels"), ({"rollout": {"watchAlarms": False}}, "no alarm fails")],
)
def test_a_story_that_could_not_be_told_is_refused_before_it_begins(model, message) -> None:
    """Tiers that boot different images, or that no alarm could send back."""
    with pytest.raises(ImpossibleError, match=message):
        check(plan(**model))


def test_the_rehearsals_own_stack_can_play_it() -> None:
    """As it stands in its file."""
    assert check(plan()).plan.scenarios == ("rollout",)
