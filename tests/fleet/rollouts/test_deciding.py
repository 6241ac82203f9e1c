"""What a group needs to launch what is wanted, without any AWS."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.rollouts import deciding
from fleet.rollouts.spelling import holds


def policy(version: str = "1", base: int = 1, types: tuple[str, ...] = ("g6.xlarge",)) -> dict[str, Any]:
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": version},
            "Overrides": [{"InstanceType": kind} for kind in types],
        },
        "InstancesDistribution": {"OnDemandBaseCapacity": base, "SpotAllocationStrategy": "lowest-price"},
    }


def running(status: str, towards: dict[str, Any]) -> dict[str, Any]:
    return {"Status": status, "DesiredConfiguration": {"MixedInstancesPolicy": towards}}


STEPS = {
    "as it is": (policy(), policy(), {"1"}, None, "nothing"),
    "another version": (policy("2"), policy(), {"1"}, None, "start"),
    "other types": (policy(types=("g5.xlarge",)), policy(), {"1"}, None, "start"),
    "a cancelled one left half": (policy(), policy(), {"1", "2"}, None, "start"),
    "on its way": (policy("2"), policy(), {"1", "2"}, running("InProgress", policy("2")), "nothing"),
    "bakes": (policy("2"), policy(), {"2"}, running("Baking", policy("2")), "nothing"),
    "on its way elsewhere": (policy("3"), policy(), {"1"}, running("InProgress", policy("2")), "replace"),
    "it is being undone": (
        policy("2"),
        policy(),
        {"1"},
        running("RollbackInProgress", policy("2")),
        "replace",
    ),
    "not wanted any more": (policy(), policy(), {"1", "2"}, running("InProgress", policy("2")), "roll back"),
    "undone already": (policy(), policy(), {"1"}, running("RollbackInProgress", policy("2")), "nothing"),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_group_takes_the_step_that_leads_to_what_is_wanted(case: str) -> None:
    """From whatever goes on, and none where that leads there already."""
    wanted, now, members, refresh, step = STEPS[case]
    assert deciding.next_step(wanted, now, members, refresh) == step


ONE_WAY = {
    "as it is": (policy(), {"1"}, None, "nothing"),
    "another version": (policy("2"), {"1"}, None, "start"),
    "changed, and nothing followed": (policy(), {"2"}, None, "start"),
    "on its way": (policy(), {"1", "2"}, "InProgress", "nothing"),
    "begins": (policy(), {"2"}, "Pending", "nothing"),
    "bakes": (policy(), {"1"}, "Baking", "nothing"),
    "on its way elsewhere": (policy("2"), {"1"}, "InProgress", "replace"),
    "it is being cancelled": (policy(), {"1", "2"}, "Cancelling", "replace"),
}


@pytest.mark.parametrize("case", ONE_WAY)
def test_a_group_by_requirements_takes_steps_forward_only(case: str) -> None:
    """The group says already where a rollout goes; going back to what was before is another one."""
    wanted, members, status, step = ONE_WAY[case]
    refresh = None if status is None else {"Status": status}
    assert deciding.next_step_one_way(wanted, policy(), members, refresh) == step


def test_what_needs_a_way_back_is_not_asked_for_without_one() -> None:
    """AWS refuses it where the group changes first; all else stays as it was asked."""
    preferences = {"AutoRollback": True, "SkipMatching": True, "BakeTime": 60}
    assert deciding.one_way(preferences) == {"BakeTime": 60}


@pytest.mark.parametrize(
    ("asked", "last", "there", "base"),
    [(1, None, 5, 1), (1, 1, 5, 5), (2, 1, 5, 5), (6, 1, 5, 6), (2, 1, 1, 2), (1, 3, 3, 1), (1, 1, 1, 1)],
)
def test_a_rollout_takes_back_no_fallback(asked: int, last: int | None, there: int, base: int) -> None:
    """What control has raised beyond what was asked last stays; what the program changes is changed."""
    before = None if last is None else policy(base=last)
    kept = deciding.with_base_kept(policy("2", asked), before, policy(base=there))
    assert kept == policy("2", base)


def test_alarms_that_ring_already_are_not_watched() -> None:
    """They would fail the rollout that may be what silences them; without any, nothing is said of alarms."""
    preferences = {"BakeTime": 60, "AlarmSpecification": {"Alarms": ["lost", "errors"]}}
    assert deciding.without_ringing(preferences, ["errors"])["AlarmSpecification"] == {"Alarms": ["lost"]}
    assert deciding.without_ringing(preferences, ["errors", "lost"]) == {"BakeTime": 60}
    assert deciding.without_ringing({"BakeTime": 60}, ["lost"]) == {"BakeTime": 60}


@pytest.mark.parametrize(
    ("there", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": "4"}, {"a": 4.0}, False),
        ({"a": "4"}, {"a": 4}, True),
        ({"a": True}, {"a": "true"}, True),
        ([1, 2], [2, 1], False),
        ([1, 2], [1], False),
        (None, {"a": 1}, False),
        (None, [], False),
    ],
)
def test_what_aws_adds_makes_no_difference(there: Any, wanted: Any, same: bool) -> None:
    """Nor how it writes a scalar; whatever is missing or in another order does."""
    assert holds(there, wanted) is same
