"""Every order of events, with the node's death, a handler's crash and messages that come twice, at any point.

The world is small enough to try all of it: tests/fleet/control/world.py.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fleet.control.actions import Action, Drop, LetGo, LookAgain
from fleet.control.drain import decide
from fleet.control.notices import Interruption, Rebalance, Termination
from tests.fleet.control.world import (
    DRAIN,
    EVENTS,
    INTERRUPTION,
    MAINTENANCE,
    MOMENTS,
    UNDRAIN,
    Budget,
    Decide,
    State,
    handled,
    rested,
    steps,
)


class Violated(Exception):
    """What must hold does not; how it came to that is in the message."""


def explore(start: State, decided: Decide = decide, most: int = 400_000) -> int:
    """Every state that `start` can come to; their number. Raises Violated by the shortest way there."""
    came: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        for name, after in steps(state, decided):
            if after in came:
                continue
            came[after] = (state, name)
            if problem := wrong(start, after) or wrong_in_the_end(after, decided):
                raise Violated(f"{problem}, after: {', '.join(way(came, after))}\n{after}")
            assert len(came) < most, "the world is too large to be tried"
            waiting.append(after)
    return len(came)


def way(came: Mapping[State, tuple[State, str] | None], state: State) -> list[str]:
    names: list[str] = []
    while (step := came[state]) is not None:
        state, name = step
        names.append(name)
    return names[::-1]


def wrong(start: State, state: State) -> str | None:
    """What must hold at any time, and once nothing is left to handle."""
    if state.launched > departures(state):
        return "capacity was requested twice"
    spent = state.budget.spent_of(start.budget)
    if any(state.told.count(kind) > 1 + spent + state.undrains for kind in set(state.told)):
        return "a node was drained twice"
    if state.told and not state.sent & {INTERRUPTION, MAINTENANCE, DRAIN} and not terminations(state):
        return "a node was drained that was not noticed"
    if any(handler.left and state.stack != "ours" and acts(handler.left) for handler in state.handlers):
        return "something is done to another fleet's instance"
    return wrong_when_quiet(state) if state.quiet else None


def wrong_when_quiet(state: State) -> str | None:
    if state.hook is not None and state.stack == "ours":
        return "a hook is left waiting"
    # What EC2 is to take is still to come, and word of it.
    if state.member == "Standby" and not (state.interrupted and state.alive):
        return "a node is left in standby"
    left = state.member != "InService"
    if state.launched != state.desired - (not left) or state.desired > departures(state):
        return "capacity was not requested once"
    undone = state.undrained_at is not None and not state.sent & {INTERRUPTION, MAINTENANCE}
    if undone and not left and state.alive and state.up and not state.bound and state.phase != "serving":
        return "an undrained node was drained again"
    return None


def wrong_in_the_end(state: State, decided: Decide) -> str | None:
    """Whether all comes to rest by itself, from the last moment on: tried where nobody is at work."""
    if state.now != MOMENTS[-1] or state.handlers or not state.queue:
        return None
    for _ in range(12):
        for notice in state.queue:
            state = handled(state, notice, decided)
        state = rested(state)._replace(now=state.now + 60)
        if state.quiet:
            return wrong_when_quiet(state)
    return "a message comes back for ever"


def departures(state: State) -> int:
    """An instance that a person takes back leaves its replacement to the group, and may leave once more."""
    return 1 + (UNDRAIN in state.sent)


def terminations(state: State) -> list[Termination]:
    return [notice for notice in state.sent if isinstance(notice, Termination)]


def acts(actions: tuple[Action, ...]) -> bool:
    return any(not isinstance(action, Drop) for action in actions)


# Which events meet is tried in pairs; with each alone, a handler's crash and a message that comes twice; and
# a crash with the pair that undoes one another.
# Maintenance is drained as a person's request is, and so meets only those.
PAIRS = [
    pair
    for pair in sorted(itertools.combinations(EVENTS, 2))
    if "maintenance" not in pair or {"drain", "undrain"} & set(pair)
]
ALONE = [
    Budget((event,), deaths=1, crashes=crashes, duplicates=1 - crashes)
    for event in EVENTS
    for crashes in (0, 1)
]
UNDONE = Budget(("drain", "undrain"), deaths=1, crashes=1)


@pytest.mark.parametrize("events", PAIRS, ids=" and ".join)
def test_two_events_in_every_order(events: tuple[str, str]) -> None:
    """Two events and the node's death: no node is drained twice, no hook is left waiting, capacity is
    requested once, nobody is drained without a notice, and all comes to an end.
    """
    assert explore(State(0.0, Budget(events))) > 1000


@pytest.mark.parametrize(
    "budget",
    [*ALONE, UNDONE],
    ids=lambda b: f"{' and '.join(b.events)}, {b.crashes} crash, {b.duplicates} twice",
)
def test_crashes_and_messages_that_come_twice(budget: Budget) -> None:
    """The same holds where a handler dies between any two of its calls, or a message is handled by two."""
    assert explore(State(0.0, budget)) > 500


@pytest.mark.parametrize("event", EVENTS)
def test_a_node_that_does_not_always_answer(event: str) -> None:
    """The same holds where the node does not answer in time, twice; then it may be told once more each."""
    assert explore(State(0.0, Budget((event,), silences=2))) > 300


@pytest.mark.parametrize("event", ["interruption", "rebalance", "maintenance", "drain", "undrain", "end"])
def test_another_fleets_instance(event: str) -> None:
    """Nothing is done to it."""
    assert explore(State(0.0, Budget((event,)), stack="theirs")) > 10


def forgetful(*args: Any, **kwargs: Any) -> list[Action]:
    """Does not see that the drain has begun."""
    notice, instance, node = args
    return decide(notice, instance, replace(node, deadline=None), **kwargs)


def patient(*args: Any, **kwargs: Any) -> list[Action]:
    """Waits for a node to be empty, and for nothing else."""
    actions = decide(*args, **kwargs)
    waits = any(isinstance(a, LetGo) and a.because != "empty" for a in actions)
    return [LookAgain(2.0)] if waits else actions


def hasty(*args: Any, **kwargs: Any) -> list[Action]:
    """Does not come back to a drain."""
    return [action for action in decide(*args, **kwargs) if not isinstance(action, LookAgain)]


def nervous(*args: Any, **kwargs: Any) -> list[Action]:
    """Takes a recommendation for an interruption."""
    notice, *others = args
    if isinstance(notice, Rebalance):
        notice = Interruption(notice.instance_id, notice.at)
    return decide(notice, *others, **kwargs)


def careless(*args: Any, **kwargs: Any) -> list[Action]:
    """Does not look whose instance it is."""
    notice, instance, node = args
    return decide(notice, instance and replace(instance, stack="ours"), node, **kwargs)


@pytest.mark.parametrize(
    ("mutant", "start", "found"),
    [
        (forgetful, State(0.0, Budget(("maintenance",))), "drained twice"),
        (patient, State(0.0, Budget(("scale-in",))), "comes back for ever"),
        (hasty, State(0.0, Budget(("scale-in",))), "a hook is left waiting"),
        (nervous, State(0.0, Budget(("rebalance",))), "that was not noticed"),
        (careless, State(0.0, Budget(("interruption",)), stack="theirs"), "another fleet's"),
    ],
)
def test_a_mistake_is_found(mutant: Decide, start: State, found: str) -> None:
    """The search can fail: each mistake in the decisions is found, with the shortest way to it."""
    with pytest.raises(Violated, match=found):
        explore(start, mutant)
