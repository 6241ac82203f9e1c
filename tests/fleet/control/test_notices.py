"""Messages of every shape into notices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.control.notices import Interruption, NotANotice, Rebalance, Termination, parse

AT = 1_767_268_800.0  # 2026-01-01T12:00:00Z
HOOK = {
    "LifecycleActionToken": "t-1",
    "AutoScalingGroupName": "gf-prod-model",
    "LifecycleHookName": "drain",
    "EC2InstanceId": "i-1",
    "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
}


def envelope(kind: str, detail: object, **changes: object) -> str:
    event = {
        "version": "0",
        "id": "7",
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-01-01T12:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:ec2:us-east-1b:instance/i-not-this"],
        "detail": detail,
    }
    return json.dumps(event | changes)


def test_an_interruption() -> None:
    """The instance comes from the detail, whatever the ARN says."""
    body = envelope(
        "EC2 Spot Instance Interruption Warning", {"instance-id": "i-1", "instance-action": "terminate"}
    )
    assert parse(body) == Interruption("i-1", AT)


def test_a_rebalance_recommendation() -> None:
    """It is a notice of its own kind."""
    assert parse(envelope("EC2 Instance Rebalance Recommendation", {"instance-id": "i-1"})) == Rebalance(
        "i-1", AT
    )


def test_a_terminate_action() -> None:
    """A hook's event carries what completes it."""
    body = envelope("EC2 Instance-terminate Lifecycle Action", HOOK)
    assert parse(body) == Termination("i-1", AT, "gf-prod-model", "drain", "t-1")


def test_a_hook_that_targets_the_queue() -> None:
    """The flat shape means the same as the event."""
    flat = {"Service": "AWS Auto Scaling", "Time": "2026-01-01T12:00:00.500Z", **HOOK}
    assert parse(json.dumps(flat)) == Termination("i-1", AT + 0.5, "gf-prod-model", "drain", "t-1")


def test_a_hook_without_token() -> None:
    """The instance id names the action, too."""
    detail = {name: value for name, value in HOOK.items() if name != "LifecycleActionToken"}
    notice = parse(envelope("EC2 Instance-terminate Lifecycle Action", detail))
    assert notice == Termination("i-1", AT, "gf-prod-model", "drain", None)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 100_000,
        "{}",
        json.dumps({"Event": "autoscaling:TEST_NOTIFICATION", "AutoScalingGroupName": "g"}),
        json.dumps({"LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING"}),
        json.dumps({"Time": "2026-01-01T12:00:00Z", **HOOK, "EC2InstanceId": None}),
        envelope("EC2 Instance Launch Successful", {}),
        envelope("EC2 Spot Instance Interruption Warning", None),
        envelope("EC2 Spot Instance Interruption Warning", {"instance-id": ""}),
        envelope("EC2 Spot Instance Interruption Warning", {"instance-id": 5}),
        envelope("EC2 Spot Instance Interruption Warning", {"instance-id": "i-1"}, time="soon"),
        envelope("EC2 Spot Instance Interruption Warning", {"instance-id": "i-1"}, time=None),
    ],
)
def test_what_is_no_notice(body: str) -> None:
    """Anything else is named as such, with a reason."""
    parsed = parse(body)
    assert isinstance(parsed, NotANotice)
    assert parsed.reason


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["EC2 Spot Instance Interruption Warning", "x", None]), json_values)
def test_nothing_makes_it_raise(detail: object, kind: object, time: object) -> None:
    """A message must be handled or dropped: one that raised would come back for ever."""
    parse(json.dumps({"detail-type": kind, "detail": detail, "time": time}))
    parse(json.dumps(detail))
