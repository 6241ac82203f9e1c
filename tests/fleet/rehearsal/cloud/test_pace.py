"""How fast a refresh goes: the promise about capacity, held over generated groups."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.rehearsal.cloud import capacity, pace
from fleet.rehearsal.cloud.capacity import Fact, Split
from fleet.rehearsal.cloud.pace import Batch, Healthy


@pytest.mark.parametrize(
    ("desired", "settled", "healthy", "batch"),
    [
        (3, 3, Healthy(100, 100), Batch(launch_first=1)),
        (1, 1, Healthy(90, 100), Batch(launch_first=1)),
        (3, 3, Healthy(100, None), Batch(end_first=1)),
        (10, 10, Healthy(90, 100), Batch(end_first=1)),
        (10, 10, Healthy(50, 100), Batch(end_first=5)),
        (10, 10, Healthy(90, 120), Batch(launch_first=2)),
        (10, 9, Healthy(90, 100), Batch()),
    ],
)
def test_a_batch_is_what_the_percentages_allow(
    desired: int, settled: int, healthy: Healthy, batch: Batch
) -> None:
    """Launching first where there is room or no other way; ending first only what the minimum can spare."""
    assert pace.next_batch(desired, settled, desired, healthy) == batch


def test_checkpoints_that_a_later_one_overtakes_are_skipped() -> None:
    """AWS's own example: one of two instances is 50 %, past both 10 and 40."""
    assert pace.reached([10, 40, 100], 2, 1) == 2
    assert pace.quota([10, 40, 100], 2, 0) == 1
    assert pace.quota([10, 40, 100], 2, 1) == 1


sizes = st.integers(1, 30)
percentages = st.tuples(st.integers(0, 100), st.integers(100, 200)).filter(lambda p: p[1] - p[0] <= 100)
checkpoints = st.lists(st.integers(1, 99), max_size=3, unique=True).map(lambda found: [*sorted(found), 100])


@given(sizes, percentages, st.integers(0, 30), st.integers(0, 30))
def test_no_batch_ends_more_than_the_minimum_can_spare(
    desired: int, healthy: tuple[int, int], settled: int, replaceable: int
) -> None:
    """Whatever the group is like at the moment."""
    batch = pace.next_batch(desired, settled, replaceable, Healthy(*healthy))
    assert batch.launch_first + batch.end_first <= replaceable
    if batch.end_first:
        assert settled - batch.end_first >= math.ceil(desired * healthy[0] / 100)
    assert batch.launch_first <= max(1, math.floor(desired * healthy[1] / 100) - desired)


@dataclass
class Group:
    """A group that only a refresh changes; launched instances serve one look later."""

    desired: int
    facts: list[Fact]
    made: int = 0

    def launch(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            self.facts.append(_fact(f"new-{self.made}", settled=False))

    def settle(self) -> None:
        self.facts = [replace(fact, settled=True) for fact in self.facts]

    @property
    def serving(self) -> int:
        return sum(fact.settled for fact in self.facts)


def _fact(name: str, *, settled: bool = True) -> Fact:
    return Fact(name, "on-demand", "a", 0.0, 1, settled=settled, leaving=False, protected=False)


def look(group: Group, healthy: Healthy, points: list[int]) -> None:
    """One look of the refresh, and one of the group, as the emulated cloud takes them."""
    old = [fact for fact in group.facts if fact.instance_id.startswith("old")]
    new = [fact for fact in group.facts if not fact.instance_id.startswith("old")]
    if not any(fact.leaving for fact in old) and all(fact.settled for fact in new):
        allowed = min(len(old), pace.quota(points, group.desired, len(new)))
        batch = pace.next_batch(group.desired, group.serving, allowed, healthy)
        leaving = {fact.instance_id for fact in old[: batch.launch_first]}
        ended = {fact.instance_id for fact in old[: batch.end_first]}
        group.facts = [
            replace(fact, leaving=fact.leaving or fact.instance_id in leaving)
            for fact in group.facts
            if fact.instance_id not in ended
        ]
    planned = capacity.plan(group.facts, group.desired, Split())
    group.facts = [fact for fact in group.facts if fact.instance_id not in planned.terminate]
    group.launch(planned.launch_on_demand)


@settings(deadline=None, max_examples=60)
@given(sizes, percentages, checkpoints)
def test_a_group_never_serves_with_fewer_than_it_states(
    desired: int, given_percentages: tuple[int, int], points: list[int]
) -> None:
    """From the first look to the last, and in the end every instance is new."""
    healthy = Healthy(*given_percentages)
    group = Group(desired, [_fact(f"old-{n}") for n in range(desired)])
    floor = math.ceil(desired * healthy.least / 100)
    most = max(desired + 1, math.floor(desired * (healthy.most or 100) / 100))
    for _ in range(4 * desired + 8):
        look(group, healthy, points)
        assert group.serving >= floor
        assert len(group.facts) <= most
        group.settle()
    assert [fact.instance_id for fact in group.facts if fact.instance_id.startswith("old")] == []
    assert len(group.facts) == desired
