"""A person's drain and undrain, maintenance and sudden ends, against the emulated cloud."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import boto3


def test_a_drain(fleet: Any) -> None:
    """Out of service with its replacement on the way, drained by the person's deadline, then ended; the group
    wants as many as before, and has as many.
    """
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.ask("Drain", victim.instance_id, **{"deadline-s": 60})
    fleet.control()
    assert _lifecycle(fleet, victim) == "Standby"
    assert fleet.target_states()[victim.instance_id] != "healthy"
    assert [order["reason"] for order in node.orders] == ["bad disk"]
    assert fleet.logged("notice.seen")[0] | {"ts": 0} == {
        "event": "notice.seen",
        "ts": 0,
        "role": "control",
        "instance_id": victim.instance_id,
        "kind": "drain-request",
        "deadline": fleet.logged("drain.requested")[0]["deadline"],
        "reason": "bad disk",
        "by": "ann",
        "request": "r-1",
    }
    node.phase = "empty"
    _again(fleet)
    assert fleet.logged("instance.retired")[0]["instance_id"] == victim.instance_id
    fleet.cloud.tick()  # the hook fires
    fleet.control()
    assert fleet.logged("hook.completed")[0]["reason"] == "empty"
    assert len(node.orders) == 1
    fleet.settle()
    assert fleet.cloud.groups()[0].desired == len(fleet.members()) == 2
    assert victim.instance_id not in {i.instance_id for i in fleet.cloud.instances()}


def test_a_drain_that_is_taken_back(fleet: Any) -> None:
    """The node serves again and is back in its group and its target group; the drain's message ends."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.ask("Drain", victim.instance_id, **{"deadline-s": 60})
    fleet.control()
    fleet.clock.now += 5
    fleet.ask("Undrain", victim.instance_id)
    fleet.control()
    assert node.phase == "serving"
    fleet.settle()
    assert _lifecycle(fleet, victim) == "InService"
    assert victim.instance_id in fleet.target_states()
    assert len(fleet.logged("node.undrained")) == len(fleet.logged("instance.returned")) == 1
    _again(fleet)
    assert fleet.logged("notice.dropped")[-1]["reason"] == "undrained since"
    assert fleet.waiting() == 0
    assert len(node.orders) == 1


def test_an_undrain_that_aws_refuses(fleet: Any) -> None:
    """A node that AWS itself takes drains on."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    fleet.ask("Drain", victim.instance_id)
    fleet.control()
    node.bound = True
    fleet.clock.now += 5
    fleet.ask("Undrain", victim.instance_id)
    fleet.control()
    assert fleet.logged("undrain.refused")[0]["reason"] == "AWS is taking the instance away"
    assert _lifecycle(fleet, victim) == "Standby"
    assert node.phase == "accepting"


def test_an_undrain_without_room(fleet: Any) -> None:
    """A group at its max has no place for both: the drain goes on, and says why."""
    victim = fleet.members()[0]
    node = fleet.listen(victim)
    boto3.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=fleet.group, MaxSize=2)
    fleet.ask("Drain", victim.instance_id)
    fleet.control()
    fleet.clock.now += 5
    fleet.ask("Undrain", victim.instance_id)
    fleet.control()
    assert "at its max" in fleet.logged("notice.dropped")[0]["reason"]
    assert node.phase == "accepting"


def test_maintenance_of_two(fleet: Any) -> None:
    """One event of AWS Health drains each instance that it names; its message stays until both are gone."""
    victims = fleet.members()
    nodes = [fleet.listen(victim) for victim in victims]
    detail = {
        "service": "EC2",
        "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "eventTypeCategory": "scheduledChange",
        "affectedEntities": [{"entityValue": victim.instance_id} for victim in victims],
    }
    _put(fleet, "aws.health", "AWS Health Event", detail)
    fleet.control(time_scale=0.1)
    assert [node.phase for node in nodes] == ["accepting", "accepting"]
    nodes[0].phase = "empty"
    fleet.show_again()
    fleet.control(time_scale=0.1)
    assert [line["instance_id"] for line in fleet.logged("instance.retired")] == [victims[0].instance_id]
    assert fleet.waiting() == 1


def test_an_instance_that_somebody_ends(fleet: Any) -> None:
    """No notice came before: it is detached, so that its replacement launches now, and only one."""
    victim = fleet.members()[0]
    boto3.client("ec2").terminate_instances(InstanceIds=[victim.instance_id])
    fleet.control()
    assert [line["instance_id"] for line in fleet.logged("instance.detached")] == [victim.instance_id]
    assert {line["state"] for line in fleet.logged("instance.ended")} == {"shutting-down", "terminated"}
    assert fleet.waiting() == 0
    fleet.settle()
    assert fleet.cloud.groups()[0].desired == len(fleet.members()) == 2
    assert len(fleet.cloud.instances(terminated=True)) == 3


def _again(fleet: Any) -> None:
    fleet.show_again()
    fleet.control()


def _lifecycle(fleet: Any, victim: Any) -> str | None:
    found = fleet.cloud.instances(terminated=True)
    state: str | None = next(i.lifecycle_state for i in found if i.instance_id == victim.instance_id)
    return state


def _put(fleet: Any, source: str, kind: str, detail: dict[str, Any]) -> None:
    """As EventBridge hands it on; AWS alone may put events of its own sources."""
    at = datetime.fromtimestamp(fleet.clock(), UTC).isoformat()
    body = json.dumps({"source": source, "detail-type": kind, "time": at, "detail": detail})
    boto3.client("sqs").send_message(QueueUrl=fleet.queue_url, MessageBody=body)
