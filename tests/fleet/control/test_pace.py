"""How many leave for maintenance at the same time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest

from fleet.control.actions import Deregister, Drop, EnterStandby, LookAgain, Retire
from fleet.control.aws import spare
from fleet.control.drain import Instance, Rules
from fleet.control.notices import DrainRequest, Interruption, Maintenance, Notice
from fleet.control.pace import NEAR_S, PATIENCE_S, paced
from fleet.control.perform import Task

RULES = Rules("prod")
NOW = 1000.0
LEAVES = [Deregister(("tg",)), EnterStandby("g")]


def task(number: int, *, group: str = "g", spare: int = 1, begins: float | None = 1e6) -> Task:
    instance = Instance(f"i-{number}", "prod", "127.0.0.9", True, group, "InService", ("tg",), spare=spare)
    return Task(Maintenance(instance.instance_id, NOW, "REBOOT", begins), instance, LEAVES)


def leaving(tasks: list[Task], now: float = NOW) -> list[str]:
    return [one.notice.instance_id for one in paced(tasks, now, RULES) if one.actions == LEAVES]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_no_more_than_a_group_can_spare(count: int) -> None:
    """The others wait, each group for itself."""
    tasks = [task(n, spare=count) for n in range(5)] + [task(9, group="other")]
    assert len(leaving(tasks)) == count + 1
    assert "i-9" in leaving(tasks)


@pytest.mark.parametrize(
    ("wants", "serving", "others", "weight", "expected"),
    [
        (2, 2, 0, None, 1),
        (2, 1, 1, None, 0),
        (100, 100, 0, None, 10),
        (100, 97, 3, None, 7),
        (100, 80, 20, None, 0),
        (100, 102, 0, None, 10),
        (100, 25, 0, "4", 2),
        (8, 2, 0, "4", 1),
        (0, 0, 0, None, 1),
    ],
)
def test_what_a_group_can_spare(
    wants: int, serving: int, others: int, weight: str | None, expected: int
) -> None:
    """A tenth of it, one at least; what is not in service has left already; large nodes count as many."""
    states = ["InService"] * serving + ["Pending"] * others
    weighted = {"WeightedCapacity": weight} if weight else {}
    members = [{"LifecycleState": state, **weighted} for state in states]
    assert spare({"DesiredCapacity": wants, "Instances": members}) == expected


@pytest.mark.parametrize("begins", [None, NOW, NOW + NEAR_S])
def test_nothing_is_put_off_that_is_near(begins: float | None) -> None:
    """Nor where AWS did not say when it begins."""
    assert len(leaving([task(n, spare=0, begins=begins) for n in range(5)])) == 5


@pytest.mark.parametrize("notice", [Interruption("i-1", NOW), DrainRequest("i-1", NOW, "", "ann", "r", None)])
def test_only_maintenance_waits(notice: Notice) -> None:
    """AWS does not wait with an interruption, and a person has looked."""
    assert paced([one := replace(task(1, spare=0), notice=notice)], NOW, RULES) == [one]


def test_what_drains_already_goes_on() -> None:
    """It is out of service: whether its group could spare it is no question any more."""
    begun = replace(task(1, spare=0), actions=[Retire()])
    assert paced([begun], NOW, RULES) == [begun]


def test_a_wait_looks_like_no_late_notice() -> None:
    """SQS tells a message's age until it was received three times, and an age of a minute rings an alarm."""
    now = NOW + 1
    for _ in range(3):
        [action] = paced([task(1, spare=0)], now, RULES)[0].actions
        assert isinstance(action, LookAgain)
        now += action.seconds
    assert now - NOW <= 60


def test_a_wait_ends_before_its_message_is_given_up() -> None:
    """Then it is the node that drains, when the maintenance begins; a dead letter would page a person."""
    now, looks = NOW, 0
    while isinstance((action := paced([task(1, spare=0)], now, RULES)[0].actions[0]), LookAgain):
        now, looks = now + action.seconds, looks + 1
    assert isinstance(action, Drop)
    assert PATIENCE_S <= now - NOW <= PATIENCE_S + 90
    assert looks + 60 < 100  # others of its message may be looked at sixty times


def test_maintenance_of_a_whole_tier(fleet: Any) -> None:
    """It leaves one by one: the second only once the group has as many in service as it wants."""
    victims = [member.instance_id for member in fleet.members()]
    nodes = {member.instance_id: fleet.listen(member) for member in fleet.members()}
    detail = {
        "service": "EC2",
        "eventTypeCode": "AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED",
        "eventTypeCategory": "scheduledChange",
        "startTime": formatdate(fleet.clock() + 14 * 86_400, usegmt=True),
        "affectedEntities": [{"entityValue": victim} for victim in victims],
    }
    at = datetime.fromtimestamp(fleet.clock(), UTC).isoformat()
    event = {"source": "aws.health", "detail-type": "AWS Health Event", "time": at, "detail": detail}
    fleet.client("sqs").send_message(QueueUrl=fleet.queue_url, MessageBody=json.dumps(event))
    scale = {"time_scale": 0.1}  # so that messages show again soon
    fleet.control(**scale)
    [first] = [line["instance_id"] for line in fleet.logged("instance.in_standby")]
    assert [one for one, node in nodes.items() if node.orders] == [first]
    assert {first} | {line["instance_id"] for line in fleet.logged("notice.waits")} == set(victims)
    fleet.settle()
    nodes[first].phase = "empty"
    fleet.show_again()
    fleet.control(**scale)
    assert {line["instance_id"] for line in fleet.logged("instance.in_standby")} == set(victims)
    assert len(fleet.logged("notice.waits")) == 1
