"""Nodes that were given up before they were ever ready: told from all others that end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from fleet.control.fallback_account import FallbackAccount
from fleet.control.fallback_record import RULES_TAG
from fleet.control.fallback_round import Fallback
from fleet.control.given_up import ended_by_checks, given_up, launches
from fleet.control.log import Log

NOW = 1_000_000.0
GRACE = 300.0
ELB = "At 2026-01-01 an instance was taken out of service in response to an ELB system health check failure."
EC2 = "in response to an EC2 health check indicating it has been terminated or stopped."


def activity(what: str, at: float, took: float | None = 40.0, cause: str = "") -> dict[str, Any]:
    ended = {} if took is None else {"EndTime": datetime.fromtimestamp(at + took, UTC)}
    return {"Description": what, "StartTime": datetime.fromtimestamp(at, UTC), "Cause": cause, **ended}


def life(cause: str = ELB, ended: float = NOW - 30, lived: float = GRACE + 60) -> list[dict[str, Any]]:
    """A node's two activities, newest first as AWS tells them; `lived` counts from its going into service."""
    return [
        activity("Terminating EC2 instance: i-1", ended, None, cause),
        activity("Launching a new EC2 instance: i-1", ended - lived - 40),
    ]


def never_ready(activities: list[dict[str, Any]], time_scale: float = 1.0) -> tuple[str, ...]:
    ended = ended_by_checks(activities, NOW, time_scale)
    return given_up(ended, launches(activities), GRACE, time_scale)


@pytest.mark.parametrize(
    "activities",
    [
        [],
        life(cause=EC2),
        life(cause="in response to a difference between desired and actual capacity, shrinking the capacity"),
        life(lived=GRACE + 600),
        life(ended=NOW - 600),
        life()[:1],
        [{**life()[0], "Cause": None}, life()[1]],
        [activity("Terminating EC2 instance: ", NOW - 30, None, ELB), life()[1]],
        [{**life()[0], "Description": None}, life()[1]],
    ],
)
def test_nodes_that_end_otherwise(activities: list[dict[str, Any]]) -> None:
    """Reclaimed, scaled in, sick after having served, long ago, launched nobody knows when, or nameless."""
    assert never_ready(activities) == ()


def test_a_node_that_was_never_ready() -> None:
    """Its group ended it for its health checks right after the grace period; times are scaled together."""
    assert never_ready(life()) == ("i-1",)
    assert never_ready(life(ended=NOW - 3, lived=36), 0.1) == ("i-1",)
    assert never_ready(life(ended=NOW - 30, lived=36), 0.1) == ()


class Forgetful(FallbackAccount):
    """Of a group so large that a hundred activities do not go back to a launch."""

    def activities(self, group: str) -> list[Any]:
        every = super().activities(group)
        return [one for one in every if one["Description"].startswith("Terminating")]


@pytest.mark.parametrize("account", [FallbackAccount, Forgetful])
def test_nodes_that_never_answer_are_told(fleet: Any, account: type[FallbackAccount]) -> None:
    """In the words of the emulated cloud: not while they boot, and once the group has given them up."""
    groups = boto3.client("autoscaling")
    tag = {"ResourceId": fleet.group, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
    rules = {"enabled": False, "base": 0, "most": 0, "after": 30, "hold": 300, "longestHold": 1200}
    groups.create_or_update_tags(Tags=[{**tag, "Key": RULES_TAG, "Value": json.dumps(rules)}])
    groups.update_auto_scaling_group(
        AutoScalingGroupName=fleet.group, HealthCheckType="ELB", HealthCheckGracePeriod=180
    )
    booting = {one.instance_id for one in fleet.members()}
    round_ = Fallback(account("lab"), Log(fleet.out, fleet.clock))
    round_.run(fleet.clock.now)
    assert fleet.logged("nodes.given_up") == []
    fleet.settle()
    round_.run(fleet.clock.now)
    [line] = fleet.logged("nodes.given_up")
    assert set(line["instances"]) == booting
    assert (line["stack"], line["count"]) == ("lab", 2)
