"""Decisions: facts to actions."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from fleet.control.actions import Deregister, Detach, Drop, LetGo, LookAgain, Retire, TellNode
from fleet.control.drain import Instance, NodeState, Rules, decide
from fleet.control.notices import (
    DrainRequest,
    Interruption,
    Leaving,
    Maintenance,
    Rebalance,
    StateChange,
    Termination,
    UndrainRequest,
)

RULES = Rules("prod")
INTERRUPTION = Interruption("i-1", 1000.0)
TERMINATION = Termination("i-1", 1000.0, "g", "drain", "t")
INSTANCE = Instance("i-1", "prod", "127.0.0.9", True, "g", "InService", ("tg",))
DEAD = replace(INSTANCE, alive=False)
ENDED = StateChange("i-1", 1000.0, "terminated")
DRAIN = DrainRequest("i-1", 1000.0, "bad disk", "ann", "r-1", 60.0)
UNDRAIN = UndrainRequest("i-1", 1010.0, "it was the cable", "ann", "r-2")
MAINTENANCE = Maintenance("i-1", 1000.0, "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", 90_000.0)
LEAVING = replace(INSTANCE, member_state="Terminating:Wait")
LATER_KINDS: list[Leaving] = [ENDED, DRAIN, UNDRAIN, MAINTENANCE]
SERVING = NodeState("serving")
DRAINING = NodeState("refusing", 1120.0)


def ask(
    notice: Leaving,
    instance: Instance | None = INSTANCE,
    node: NodeState = SERVING,
    now: float = 1001.0,
    rules: Rules = RULES,
    heartbeat_s: float | None = 120.0,
) -> list[object]:
    hook = heartbeat_s if isinstance(notice, Termination) else None
    return list(decide(notice, instance, node, now=now, heartbeat_s=hook, rules=rules))


def test_an_interruption_in_order() -> None:
    """First off the balancer, then off the group, so that the replacement launches, then the node drains."""
    told = TellNode("127.0.0.9", "spot-interruption", 1120.0)
    assert ask(INTERRUPTION) == [Deregister(("tg",)), Detach("g"), told]


def test_an_interruption_heard_twice() -> None:
    """Detached and draining, the instance needs nothing more."""
    detached = replace(INSTANCE, group=None, member_state=None, target_groups=())
    assert ask(INTERRUPTION, detached, DRAINING) == []


@pytest.mark.parametrize(
    "instance", [None, replace(DEAD, group=None), replace(DEAD, member_state="Terminating")]
)
@pytest.mark.parametrize("notice", [INTERRUPTION, ENDED, DRAIN, MAINTENANCE])
def test_an_instance_that_is_gone(notice: Leaving, instance: Instance | None) -> None:
    """It is left alone where its group knows."""
    assert ask(notice, instance) == [Drop("the instance is gone")]


@pytest.mark.parametrize("notice", [INTERRUPTION, ENDED, DRAIN, MAINTENANCE])
def test_an_instance_that_is_gone_and_not_missed(notice: Leaving) -> None:
    """Its group still counts on it: the replacement is asked for now."""
    assert ask(notice, DEAD) == [Deregister(("tg",)), Detach("g")]


def test_what_is_gone_in_standby() -> None:
    """Its replacement was launched before: the group only has to forget it."""
    assert ask(ENDED, replace(DEAD, member_state="Standby")) == [Retire()]


def test_an_interruption_of_a_member_that_leaves() -> None:
    """A member that is already terminating cannot be detached; the node hears of the nearer deadline."""
    actions = ask(INTERRUPTION, LEAVING, NodeState("accepting", 1500.0))
    assert actions == [Deregister(("tg",)), TellNode("127.0.0.9", "spot-interruption", 1120.0)]


def test_a_node_that_heard_from_its_metadata() -> None:
    """The node that already drains by that deadline is not told again; the account still is."""
    assert ask(INTERRUPTION, node=DRAINING) == [Deregister(("tg",)), Detach("g")]


def test_past_the_deadline_nobody_is_told() -> None:
    """Once the two minutes are over there is nothing to say to the node."""
    assert ask(INTERRUPTION, node=NodeState("silent"), now=1121.0) == [Deregister(("tg",)), Detach("g")]


@pytest.mark.parametrize("stack", ["other", None])
@pytest.mark.parametrize("notice", [INTERRUPTION, TERMINATION, Rebalance("i-1", 1000.0), *LATER_KINDS])
def test_other_fleets(notice: Leaving, stack: str | None) -> None:
    """Nothing is done to an instance of another stack, or of none."""
    assert ask(notice, replace(INSTANCE, stack=stack)) == [Drop("another fleet's instance")]


def test_a_recommendation() -> None:
    """It is recorded and changes nothing."""
    assert ask(Rebalance("i-1", 1000.0)) == [Drop("a recommendation is only recorded")]


def test_a_termination_begins() -> None:
    """Off the balancer, told with the hook's own deadline, and looked at again."""
    told = TellNode("127.0.0.9", "terminate", 1060.0)
    assert ask(TERMINATION, LEAVING, heartbeat_s=60.0) == [Deregister(("tg",)), told, LookAgain(2.0)]


@pytest.mark.parametrize("phase", ["accepting", "refusing", "handing_over"])
def test_a_termination_waits(phase: str) -> None:
    """While the node has work the hook waits, and no call to AWS is made."""
    assert ask(TERMINATION, LEAVING, NodeState(phase, 1120.0)) == [LookAgain(2.0)]


@pytest.mark.parametrize("condition", ["empty", "dead"])
def test_a_termination_ends(condition: str) -> None:
    """An empty or dead node is let go at once."""
    assert ask(TERMINATION, LEAVING, NodeState(condition)) == [LetGo(TERMINATION, condition)]


@pytest.mark.parametrize("instance", [None, replace(LEAVING, alive=False)])
def test_a_termination_of_what_is_gone(instance: Instance | None) -> None:
    """The hook of an instance that is gone is completed, for nothing else would."""
    assert ask(TERMINATION, instance) == [LetGo(TERMINATION, "gone")]


def test_the_deadline_of_a_hook() -> None:
    """Short of its end the hook is completed, whatever the node says; the last look is not after that."""
    assert ask(TERMINATION, LEAVING, DRAINING, now=1109.5) == [LookAgain(pytest.approx(0.9))]
    assert ask(TERMINATION, LEAVING, DRAINING, now=1110.5) == [LetGo(TERMINATION, "deadline")]
    assert ask(TERMINATION, LEAVING, NodeState("silent"), now=1110.5) == [LetGo(TERMINATION, "deadline")]


def test_a_hook_that_is_no_more() -> None:
    """Without a hook nobody waits."""
    assert ask(TERMINATION, LEAVING, heartbeat_s=None) == [Drop("no hook of ours waits")]


def test_the_scale_of_a_rehearsal() -> None:
    """Durations of AWS are scaled, moments are not."""
    rules = replace(RULES, time_scale=0.1)
    assert TellNode("127.0.0.9", "spot-interruption", 1012.0) in ask(INTERRUPTION, rules=rules)
    assert ask(TERMINATION, LEAVING, DRAINING, now=1011.5, rules=rules) == [LetGo(TERMINATION, "deadline")]


def test_every_termination_ends() -> None:
    """Whatever is known, each answer either lets go, drops, or looks again before the hook's end."""
    conditions = ["serving", "accepting", "refusing", "handing_over", "empty", "dead", "silent", "new-phase"]
    instances = [None, INSTANCE, LEAVING, replace(LEAVING, address=None), replace(LEAVING, alive=False)]
    moments = [990.0, 1001.0, 1109.0, 1111.0, 5000.0]
    for condition, instance, now in itertools.product(conditions, instances, moments):
        last = ask(TERMINATION, instance, NodeState(condition), now=now)[-1]
        assert isinstance(last, LetGo) or (isinstance(last, LookAgain) and now + last.seconds <= 1110.5)
