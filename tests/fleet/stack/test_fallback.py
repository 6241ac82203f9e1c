"""What a stack tells the control handler about fallback, and what it lets it do."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from fleet.control import fallback_record
from fleet.errors import SettingsError
from fleet.stack import fallback
from fleet.stack.settings import Settings
from tests.fleet.stack.conftest import Registered, file_config


def settings(tier: str, **changes: Any) -> Settings:
    """The rehearsal's, with changes to one tier."""
    config: dict[str, Any] = copy.deepcopy(dict(file_config("rehearsal")))
    tiers = json.loads(config["goldenfleet:tiers"])
    for one in tiers:
        if one["name"] == tier:
            one |= changes
    return Settings.from_config("rehearsal", {**config, "goldenfleet:tiers": json.dumps(tiers)})


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"most": 0}, "fallback.most 0 is below purchase.onDemandBase 1"),
        ({"most": 7}, "fallback.most 7 is above capacity.max 6"),
        ({"holdSeconds": 600, "longestHoldSeconds": 300}, "holdSeconds 600 is above longestHoldSeconds 300"),
        ({"holdSeconds": 10}, "must be at least 60"),
        ({"after": 10}, "there is no such setting"),
    ],
)
def test_what_cannot_work(told: dict[str, Any], says: str) -> None:
    """It is refused with what to change, before anything is made."""
    with pytest.raises(SettingsError) as caught:
        settings("model", fallback=told)
    assert says in str(caught.value)


def test_the_handler_reads_what_the_program_writes() -> None:
    """The tag of the program is under the handler's key, and holds the tier's settings in AWS's seconds."""
    assert (fallback.RULES_TAG, fallback.MEMORY_TAG) == (
        fallback_record.RULES_TAG,
        fallback_record.MEMORY_TAG,
    )
    tier = settings("model", fallback={"most": 4, "afterSeconds": 60}).tier("model")
    told = fallback_record.read_rules({fallback.RULES_TAG: fallback.rules(tier)})
    assert told is not None
    assert (told.base, told.most, told.after_s, told.hold_s) == (1, 4, 60.0, 300.0)
    assert (told.longest_hold_s, told.enabled) == (3600.0, True)
    assert len(fallback.rules(tier)) <= 256


def test_a_tier_without_spot() -> None:
    """It has nothing to fall back from, whatever its settings say."""
    tier = settings(
        "model", purchase={"instanceTypes": ["c7i.large"], "onDemandBase": 0, "onDemandPercent": 100}
    )
    assert not tier.tier("model").falls_back


def test_every_group_says_its_rules(registered_rehearsal: Registered) -> None:
    """Each tier's group has the tag, and its nodes do not get it."""
    for group in registered_rehearsal.of("autoscaling/group:Group"):
        [tag] = [tag for tag in group.inputs["tags"] if tag["key"] == fallback.RULES_TAG]
        assert json.loads(tag["value"])["base"] == 1
        assert tag["propagateAtLaunch"] is False


def test_what_the_handler_may_change(registered_rehearsal: Registered) -> None:
    """The stack's own groups only, never a size or a subnet, and of their tags only its memory."""
    policy = registered_rehearsal.one("iam/rolePolicy:RolePolicy", "control").inputs["policy"]
    by_action = {action: one for one in json.loads(policy)["Statement"] for action in one["Action"]}
    changing = by_action["autoscaling:UpdateAutoScalingGroup"]
    assert "*" not in changing["Resource"]
    assert changing["Condition"]["Null"]["autoscaling:MaxSize"] == "true"
    tagging = by_action["autoscaling:CreateOrUpdateTags"]
    assert tagging["Condition"]["ForAllValues:StringEquals"] == {"aws:TagKeys": [fallback.MEMORY_TAG]}
    assert "autoscaling:DescribeScalingActivities" in by_action
