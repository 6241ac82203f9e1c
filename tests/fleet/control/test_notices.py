"""Messages of every shape into notices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.control.notices import (
    DrainRequest,
    Interruption,
    Maintenance,
    NotANotice,
    Rebalance,
    StateChange,
    Termination,
    UndrainRequest,
    parse,
)

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
    assert parse(body) == (Interruption("i-1", AT),)


def test_a_rebalance_recommendation() -> None:
    """It is a notice of its own kind."""
    body = envelope("EC2 Instance Rebalance Recommendation", {"instance-id": "i-1"})
    assert parse(body) == (Rebalance("i-1", AT),)


def test_a_terminate_action() -> None:
    """A hook's event carries what completes it."""
    body = envelope("EC2 Instance-terminate Lifecycle Action", HOOK)
    assert parse(body) == (Termination("i-1", AT, "gf-prod-model", "drain", "t-1"),)


def test_a_hook_that_targets_the_queue() -> None:
    """The flat shape means the same as the event."""
    flat = {"Service": "AWS Auto Scaling", "Time": "2026-01-01T12:00:00.500Z", **HOOK}
    assert parse(json.dumps(flat)) == (Termination("i-1", AT + 0.5, "gf-prod-model", "drain", "t-1"),)


def test_a_hook_without_token() -> None:
    """The instance id names the action, too."""
    detail = {name: value for name, value in HOOK.items() if name != "LifecycleActionToken"}
    notice = parse(envelope("EC2 Instance-terminate Lifecycle Action", detail))
    assert notice == (Termination("i-1", AT, "gf-prod-model", "drain", None),)


def test_a_state_change() -> None:
    """It carries the state."""
    body = envelope("EC2 Instance State-change Notification", {"instance-id": "i-1", "state": "terminated"})
    assert parse(body) == (StateChange("i-1", AT, "terminated"),)


def health(**changes: object) -> str:
    """As AWS Health tells of a retirement (Health user guide, "EventBridge schema")."""
    detail = {
        "eventArn": "arn:aws:health:us-east-1::event/EC2/AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED/x",
        "service": "EC2",
        "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "eventTypeCategory": "scheduledChange",
        "startTime": "Fri, 02 Jan 2026 12:00:00 GMT",
        "statusCode": "upcoming",
        "affectedEntities": [{"entityValue": "i-1"}, {"entityValue": "i-2", "status": "PENDING"}],
    }
    return envelope("AWS Health Event", detail | changes, source="aws.health")


def test_maintenance() -> None:
    """One event names many instances; each gets a notice, with the time at which AWS begins."""
    code = "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED"
    begins = AT + 86_400
    assert parse(health()) == (Maintenance("i-1", AT, code, begins), Maintenance("i-2", AT, code, begins))


def test_maintenance_without_a_time() -> None:
    """It is one all the same."""
    [first, _] = parse(health(startTime="soon"))  # type: ignore[misc]
    assert first == Maintenance("i-1", AT, "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"service": "RDS"},
        {"eventTypeCategory": "issue"},
        {"statusCode": "closed"},
        {"affectedEntities": None},
        {"affectedEntities": [{"entityValue": "vol-1"}]},
        {"affectedEntities": [{"entityValue": "i-1", "status": "RESOLVED"}]},
        {"affectedEntities": [{"entityValue": 7}]},
        {"eventTypeCode": "AWS_EC2_PLANNED_LIFECYCLE_EVENT"},
    ],
)
def test_what_is_no_maintenance_of_an_instance(changes: dict[str, object]) -> None:
    """Other services, what is over, what names no instance; and the end of an instance type, half a year
    ahead, of which every replacement is told again.
    """
    assert isinstance(parse(health(**changes)), NotANotice)


def test_maintenance_of_more_than_instances() -> None:
    """What else the event names, or cannot be read of it, does not hide the instance."""
    entities: list[object] = [{"entityValue": 7}, "i-2", {"entityValue": "i-*"}, {"entityValue": "i-1"}]
    [notice] = parse(health(affectedEntities=entities))  # type: ignore[misc]
    assert isinstance(notice, Maintenance)
    assert notice.instance_id == "i-1"


def asked(kind: str, **changes: object) -> str:
    detail = {"instance-id": "i-1", "reason": "bad disk", "deadline-s": 60, "by": "ann", "request": "r-1"}
    return envelope(f"Goldenfleet {kind} Request", detail | changes, source="goldenfleet")


def test_what_a_person_asks() -> None:
    """A drain with its deadline or without, and an undrain."""
    assert parse(asked("Drain")) == (DrainRequest("i-1", AT, "bad disk", "ann", "r-1", 60.0),)
    assert parse(asked("Drain", **{"deadline-s": None})) == (
        DrainRequest("i-1", AT, "bad disk", "ann", "r-1", None),
    )
    assert parse(asked("Undrain")) == (UndrainRequest("i-1", AT, "bad disk", "ann", "r-1"),)


@pytest.mark.parametrize("kind", ["Drain", "Undrain"])
def test_a_request_counts_from_when_the_queue_got_it(kind: str) -> None:
    """A laptop's clock may be minutes off: its drain would be looked at for ever, or be over at once."""
    [request] = parse(asked(kind), AT + 300.0)  # type: ignore[misc]
    assert request.at == AT + 300.0


def test_what_aws_tells_counts_from_its_own_time() -> None:
    """A notice that lay in the queue is no newer for that."""
    body = envelope("EC2 Spot Instance Interruption Warning", {"instance-id": "i-1"})
    assert parse(body, AT + 60.0) == (Interruption("i-1", AT),)


def test_a_long_reason() -> None:
    """A node refuses an order with a longer one, and would never drain; a name is no novel either."""
    [request] = parse(asked("Drain", reason="x" * 300, by="y" * 300))  # type: ignore[misc]
    assert isinstance(request, DrainRequest)
    assert len(request.reason) == len(request.by) == 200


@pytest.mark.parametrize("deadline", ["60", True, -1, float("nan"), float("inf"), []])
def test_a_deadline_that_is_no_number_of_seconds(deadline: object) -> None:
    """It is refused rather than guessed."""
    assert isinstance(parse(asked("Drain", **{"deadline-s": deadline})), NotANotice)


def test_a_request_of_somebody_else() -> None:
    """The names are ours; a message that does not say so is not."""
    body = envelope("Goldenfleet Drain Request", {"instance-id": "i-1", "request": "r"}, source="aws.ec2")
    assert isinstance(parse(body), NotANotice)


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
        envelope("EC2 Spot Instance Interruption Warning", {"instance-id": "nonsense"}),
        envelope("EC2 Spot Instance Interruption Warning", {"instance-id": "i-*"}),  # a filter would find all
        envelope("EC2 Instance-terminate Lifecycle Action", {**HOOK, "AutoScalingGroupName": "g" * 2000}),
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


kinds = st.sampled_from(
    ["EC2 Spot Instance Interruption Warning", "AWS Health Event", "Goldenfleet Drain Request", "x", None]
)


@given(json_values, kinds, json_values)
def test_nothing_makes_it_raise(detail: object, kind: object, time: object) -> None:
    """A message must be handled or dropped: one that raised would come back for ever."""
    parse(json.dumps({"detail-type": kind, "detail": detail, "time": time}))
    parse(json.dumps(detail))
