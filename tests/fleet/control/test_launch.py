"""Launches that a hook holds back: parsed, and let go once the node is ready."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fleet.control.actions import Drop, LetGo, LookAgain
from fleet.control.drain import Instance, NodeState, Rules
from fleet.control.launch import decide
from fleet.control.notices import Launch, parse

RULES = Rules("prod")
LAUNCH = Launch("i-1", 1000.0, "g", "ready", "t")
INSTANCE = Instance("i-1", "prod", "127.0.0.9", True, "g", "Warmed:Pending:Wait")
BOOTING, READY = NodeState("dead"), NodeState("serving", None, ready=True)


def ask(
    instance: Instance | None = INSTANCE,
    node: NodeState = BOOTING,
    now: float = 1001.0,
    heartbeat_s: float | None = 300.0,
    rules: Rules = RULES,
) -> list[object]:
    return list(decide(LAUNCH, instance, node, now=now, heartbeat_s=heartbeat_s, rules=rules))


@pytest.mark.parametrize(
    ("instance", "heartbeat_s", "now", "reason"),
    [
        (replace(INSTANCE, stack="other"), 300.0, 1001.0, "another fleet's instance"),
        (INSTANCE, None, 1001.0, "no hook of ours waits"),
        (None, 300.0, 1001.0, "the instance is gone"),
        (replace(INSTANCE, member_state="Terminating:Wait"), 300.0, 1001.0, "the instance is gone"),
        (INSTANCE, 300.0, 1300.0, "its hook ran out"),
    ],
)
def test_nobody_is_let_go_for_nothing(
    instance: Instance | None, heartbeat_s: float | None, now: float, reason: str
) -> None:
    """What is gone, another's or too late is dropped, whether its node is ready or not."""
    assert ask(instance, BOOTING, now, heartbeat_s) == [Drop(reason)]


@pytest.mark.parametrize("node", [BOOTING, NodeState("silent"), NodeState("serving"), NodeState("accepting")])
def test_a_node_that_is_not_ready_waits(node: NodeState) -> None:
    """And is looked at again, sixty times while the hook lasts, in a rehearsal too."""
    assert ask(node=node) == [LookAgain(5.0)]
    assert ask(node=node, rules=Rules("prod", 0.1, 0.25)) == [LookAgain(0.5)]
    assert ask(node=node, now=1299.0) == [LookAgain(1.0)]


def test_a_node_that_is_ready_goes_on() -> None:
    """At once, and as often as it is asked."""
    assert ask(node=READY) == [LetGo(LAUNCH, "ready")]


def test_the_event_is_read() -> None:
    """As EventBridge brings it, and as a hook that targets the queue itself does."""
    detail = {
        "LifecycleActionToken": "t",
        "AutoScalingGroupName": "g",
        "LifecycleHookName": "ready",
        "EC2InstanceId": "i-1",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        "Origin": "EC2",
        "Destination": "WarmPool",
    }
    event = {
        "source": "aws.autoscaling",
        "detail-type": "EC2 Instance-launch Lifecycle Action",
        "time": "1970-01-01T00:16:40Z",
        "detail": detail,
    }
    assert parse(json.dumps(event)) == (LAUNCH,)
    assert parse(json.dumps({**detail, "Time": "1970-01-01T00:16:40Z"})) == (LAUNCH,)
