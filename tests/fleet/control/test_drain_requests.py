"""Decisions about what AWS does not end by itself: drains that people ask for, maintenance, state changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fleet.control.actions import (
    Action,
    Deregister,
    Drop,
    EnterStandby,
    ExitStandby,
    LookAgain,
    RememberUndrain,
    Retire,
    TellNode,
    Undrain,
)
from fleet.control.drain import LONGEST_DRAIN_S, Instance, NodeState, Rules, deadline_of, decide
from fleet.control.notices import DrainRequest, Interruption, Maintenance, Notice, StateChange, UndrainRequest

RULES = Rules("prod")
DRAIN = DrainRequest("i-1", 1000.0, "bad disk", "ann", "r-1", 60.0)
UNDRAIN = UndrainRequest("i-1", 1010.0, "it was the cable", "ann", "r-2")
MAINTENANCE = Maintenance("i-1", 1000.0, "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", 90_000.0)
INSTANCE = Instance("i-1", "prod", "127.0.0.9", True, "g", "InService", ("tg",), room=True)
STANDBY = replace(INSTANCE, member_state="Standby")
LEAVING = replace(INSTANCE, member_state="Terminating:Wait")
DETACHED = replace(INSTANCE, group=None, member_state=None, target_groups=())
UNDRAINED = replace(STANDBY, undrained_at=1010.0)
SERVING, EMPTY, DEAD = NodeState("serving"), NodeState("empty"), NodeState("dead")
DRAINING = NodeState("refusing", 1060.0)


def ask(
    notice: Notice, instance: Instance | None = INSTANCE, node: NodeState = SERVING, now: float = 1001.0
) -> list[Action]:
    return decide(notice, instance, node, now=now, heartbeat_s=None, rules=RULES)


@pytest.mark.parametrize(
    ("notice", "told", "again_s"),
    [
        (DRAIN, TellNode("127.0.0.9", "bad disk", 1060.0), 2.0),
        (MAINTENANCE, TellNode("127.0.0.9", f"maintenance: {MAINTENANCE.code}", 1600.0), 10.0),
    ],
)
def test_a_drain_begins(notice: Notice, told: TellNode, again_s: float) -> None:
    """Off the balancer, into standby, so that the replacement launches; then the node is told."""
    assert ask(notice) == [Deregister(("tg",)), EnterStandby("g"), told, LookAgain(again_s)]


@pytest.mark.parametrize("notice", [DRAIN, MAINTENANCE])
def test_a_drain_waits(notice: Notice) -> None:
    """While the node has work nothing more is asked of AWS."""
    [action] = ask(notice, STANDBY, DRAINING)
    assert isinstance(action, LookAgain)


@pytest.mark.parametrize("node", [EMPTY, DEAD])
@pytest.mark.parametrize("notice", [DRAIN, MAINTENANCE])
def test_a_drain_ends(notice: Notice, node: NodeState) -> None:
    """An empty or dead node is ended by its group."""
    assert ask(notice, STANDBY, node) == [Retire()]


def test_a_dead_node_is_replaced_before_it_is_ended() -> None:
    """Ended out of service its group would launch the replacement only afterwards."""
    assert ask(DRAIN, INSTANCE, DEAD) == [Deregister(("tg",)), EnterStandby("g"), Retire()]


@pytest.mark.parametrize("node", [SERVING, DRAINING, NodeState("silent")])
def test_the_deadline_of_a_drain(node: NodeState) -> None:
    """At its deadline the group ends it, by the hook, in which what is left gets its own time."""
    assert ask(DRAIN, STANDBY, node, now=1060.0) == [Retire()]
    assert Retire() not in ask(DRAIN, STANDBY, node, now=1059.0)


def test_the_last_look_is_not_after_the_deadline() -> None:
    """Whatever the pause between looks."""
    assert ask(DRAIN, STANDBY, DRAINING, now=1059.5) == [LookAgain(0.5)]


def test_a_drain_of_what_is_not_in_service_yet() -> None:
    """Nothing can be asked of its group but to wait."""
    assert ask(DRAIN, replace(INSTANCE, member_state="Pending:Wait")) == [LookAgain(2.0)]


@pytest.mark.parametrize("instance", [LEAVING, DETACHED])
def test_a_drain_of_what_leaves(instance: Instance) -> None:
    """AWS takes it already: the node hears of the nearer deadline, and no replacement is asked for."""
    assert ask(DRAIN, instance, NodeState("accepting", 1120.0)) == [TellNode("127.0.0.9", "bad disk", 1060.0)]
    assert ask(DRAIN, instance, DRAINING) == [Drop("the instance is leaving already")]


def test_deadlines() -> None:
    """A person's own, that of a spot notice where none is given, and never one that outlives the message."""
    assert deadline_of(replace(DRAIN, deadline_s=None), None, RULES) == 1120.0
    assert deadline_of(replace(DRAIN, deadline_s=0.0), None, RULES) == 1000.0
    assert deadline_of(replace(DRAIN, deadline_s=1e9), None, RULES) == 1000.0 + LONGEST_DRAIN_S
    assert deadline_of(replace(MAINTENANCE, begins=1200.0), None, RULES) == 1200.0
    assert deadline_of(replace(MAINTENANCE, begins=5.0), None, RULES) == 1000.0
    assert deadline_of(replace(MAINTENANCE, begins=None), None, RULES) == 1600.0


@pytest.mark.parametrize("deadline_s", [0.0, 1.0, 120.0, 600.0, LONGEST_DRAIN_S])
def test_a_drain_is_looked_at_less_often_than_a_message_may_be_received(deadline_s: float) -> None:
    """SQS gives a message up after a hundred receives."""
    drain, now, looks = replace(DRAIN, deadline_s=deadline_s), 1000.0, 0
    while True:
        actions = ask(drain, STANDBY, NodeState("silent"), now=now)
        looks += 1
        if actions == [Retire()]:
            break
        [pause] = [action.seconds for action in actions if isinstance(action, LookAgain)]
        now += max(1, math.floor(pause))
    assert looks < 100 - 20


@pytest.mark.parametrize("deadline_s", [120.0, 600.0, LONGEST_DRAIN_S])
def test_a_long_drain_looks_like_no_late_notice(deadline_s: float) -> None:
    """SQS tells a message's age until it was received three times, and an age of a minute rings an alarm."""
    drain, now = replace(DRAIN, deadline_s=deadline_s), 1001.0
    for _ in range(3):
        actions = ask(drain, STANDBY, NodeState("silent"), now=now)
        now += next(action.seconds for action in actions if isinstance(action, LookAgain))
    assert now - 1001.0 <= 60 / 2


def test_an_undrain() -> None:
    """First the node, which may refuse; then the word that the drain is over, or the drain would take the
    instance out of the group again; then the group.
    """
    assert ask(UNDRAIN, STANDBY, DRAINING) == [
        Undrain("127.0.0.9"),
        RememberUndrain(1010.0),
        ExitStandby("g"),
    ]


def test_an_undrain_that_stopped_half_way() -> None:
    """Remembered, and not yet back: the group is asked once more."""
    assert ExitStandby("g") in ask(UNDRAIN, UNDRAINED, SERVING)


def test_an_undrain_of_a_node_that_does_not_answer() -> None:
    """It is tried for as long as a spot notice lasts: a message that comes back for ever pages a person."""
    silent = NodeState("silent")
    assert ask(UNDRAIN, STANDBY, silent, now=1129.0) == [LookAgain(2.0)]
    assert ask(UNDRAIN, STANDBY, silent, now=1130.0) == [Drop("the node does not answer")]


def test_a_drain_that_was_undone_and_whose_node_does_not_answer() -> None:
    """It waits no longer than its deadline, and no more often than any drain; then the instance goes."""
    drain, silent = replace(DRAIN, deadline_s=LONGEST_DRAIN_S), NodeState("silent")
    assert ask(drain, UNDRAINED, silent, now=1100.0) == [LookAgain(LONGEST_DRAIN_S / 60)]
    assert ask(drain, UNDRAINED, silent, now=1000.0 + LONGEST_DRAIN_S) == [Retire()]


def test_an_undrain_of_what_a_person_drained_at_the_node() -> None:
    """It never left its group."""
    assert ask(UNDRAIN, INSTANCE, DRAINING) == [Undrain("127.0.0.9"), RememberUndrain(1010.0)]


def test_an_undrain_that_comes_before_its_drain() -> None:
    """It is remembered, and the drain that was asked for before it does nothing."""
    assert ask(UNDRAIN, INSTANCE, SERVING) == [RememberUndrain(1010.0), Drop("it serves")]
    assert ask(DRAIN, replace(INSTANCE, undrained_at=1010.0), SERVING) == [Drop("undrained since")]


def test_a_drain_that_was_quicker_than_its_undrain() -> None:
    """What it did after all is taken back, until the node is seen to serve."""
    assert ask(DRAIN, UNDRAINED, DRAINING) == [Undrain("127.0.0.9"), ExitStandby("g"), LookAgain(2.0)]


def test_a_drain_that_was_undone_leaves_the_next_one_alone() -> None:
    """Its message may still be in the queue while the node drains, or is empty, for a request made since."""
    for condition in ("accepting", "handing_over", "empty"):
        assert ask(DRAIN, UNDRAINED, NodeState(condition, 1100.0)) == [Drop("undrained since")]


def test_a_drain_after_an_undrain() -> None:
    """A later drain is another."""
    drain = replace(DRAIN, at=1020.0)
    assert EnterStandby("g") in ask(drain, replace(INSTANCE, undrained_at=1010.0), now=1021.0)
    assert ask(UNDRAIN, UNDRAINED, DRAINING) == [Drop("it was undrained before")]


@pytest.mark.parametrize("instance", [LEAVING, DETACHED, replace(STANDBY, room=False)])
def test_an_undrain_that_comes_too_late(instance: Instance) -> None:
    """What AWS takes, and what has no place any more, drains on."""
    [action] = ask(UNDRAIN, instance, DRAINING)
    assert isinstance(action, Drop)
    assert "too late" in action.reason


def test_a_drain_goes_on_where_there_is_no_way_back() -> None:
    """Undrained and full: left in standby it would stay for ever."""
    assert ask(DRAIN, replace(UNDRAINED, room=False), EMPTY) == [Retire()]
    assert ask(DRAIN, UNDRAINED, DEAD) == [Retire()]


def test_maintenance_is_not_undrained() -> None:
    """It comes, whatever a person wishes."""
    assert ask(MAINTENANCE, UNDRAINED, EMPTY) == [Retire()]


def test_an_interruption_in_standby() -> None:
    """Its replacement was launched before: only the node hears of it."""
    notice = Interruption("i-1", 1000.0)
    assert ask(notice, STANDBY) == [Deregister(("tg",)), TellNode("127.0.0.9", "spot-interruption", 1120.0)]


def test_an_interruption_of_what_is_not_in_service_yet() -> None:
    """It is looked at again, for once in service it must be detached."""
    notice, pending = Interruption("i-1", 1000.0), replace(INSTANCE, member_state="Pending")
    assert LookAgain(2.0) in ask(notice, pending)
    assert LookAgain(2.0) not in ask(notice, pending, now=1120.0)


@pytest.mark.parametrize("state", ["pending", "running", "hibernating"])
def test_states_that_ask_for_nothing(state: str) -> None:
    """Only ends are of interest."""
    assert ask(StateChange("i-1", 1000.0, state)) == [Drop(f"{state} asks for nothing")]


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_an_instance_that_somebody_stopped(state: str) -> None:
    """It leaves the balancer; its group ends and replaces it, for detached it would lie there for ever."""
    notice = StateChange("i-1", 1000.0, state)
    assert ask(notice, replace(INSTANCE, alive=False))[0] == Deregister(("tg",))
    assert ask(notice) == [Drop("nothing of ours has stopped")]
