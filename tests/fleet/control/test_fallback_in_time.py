"""The fallback policy against a seeded spot market."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.control.fallback import Rules, TierState, decide, on_demand_of

RULES = Rules(base=1, most=100, after_s=30.0, hold_s=600.0, longest_hold_s=3600.0)
NOW = 1_000_000.0


@dataclass
class Group:
    """An Auto Scaling group in little: fills its split, replaces before it ends, tries spot once a minute."""

    desired: int
    spot_there: Callable[[float], int]
    """Spot nodes that the market gives at a time, those that the group has included."""
    on_demand_there: Callable[[float], bool] = lambda _at: True
    base: int = 1
    on_demand: int = 1
    spot: int = 0
    failures: list[float] = field(default_factory=list)
    on_demand_failures: list[float] = field(default_factory=list)

    def move(self, now: float) -> None:
        self.spot = min(self.spot, self.spot_there(now))  # interruptions
        wanted = on_demand_of(self.desired, self.base, 0)
        self._buy_on_demand(wanted, now)
        self._buy_spot(self.desired - wanted, now)
        surplus = self.on_demand + self.spot - self.desired
        self.on_demand -= max(0, min(surplus, self.on_demand - wanted))
        self.spot -= max(0, self.on_demand + self.spot - self.desired)

    def _buy_on_demand(self, wanted: int, now: float) -> None:
        if self.on_demand < wanted and self.on_demand + self.spot < self.desired:
            if self.on_demand_there(now):
                self.on_demand = min(wanted, self.desired - self.spot)
            else:
                self.on_demand_failures.append(now)

    def _buy_spot(self, wanted: int, now: float) -> None:
        if self.spot < wanted:
            self.spot = min(wanted, self.spot_there(now))
            if self.spot < wanted:
                self.failures.append(now)

    def state(self) -> TierState:
        recent, lately = tuple(self.failures[-100:]), tuple(self.on_demand_failures[-100:])
        there = self.on_demand + self.spot
        return TierState(
            "model", self.desired, 40, self.base, 0, self.on_demand, self.spot, there, recent, lately
        )


def play(
    group: Group, rules: Rules, seconds: float, every_s: float = 60.0
) -> Iterator[tuple[float, int, int]]:
    """Times, bases and nodes there, once a minute; each minute the group moves first, then the policy."""
    memory, now = None, NOW
    while now < NOW + seconds:
        group.move(now)
        decision = decide(group.state(), rules, memory, now)
        group.base, memory = decision.base, decision.memory
        yield now, group.base, group.on_demand + group.spot
        now += every_s


def test_dry_for_ten_minutes() -> None:
    """Whole again within three minutes of the loss, at the configured base within the hour, never less than
    whole in between."""
    group = Group(6, lambda at: 0 if 600 <= at - NOW < 1200 else 20)
    seen = list(play(group, RULES, 5400))
    lost = [at - NOW for at, _, there in seen if there < 6]
    assert lost
    assert min(lost) == 600
    assert max(lost) < 600 + 180
    assert max(base for _, base, _ in seen) == 6
    assert seen[-1][1:] == (1, 6)
    assert group.spot == 5


@given(st.integers(2, 20), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_no_flapping(desired: int, seed: int) -> None:
    """Whatever spot does, the base is lowered once per hold at most, and turns round twice for it."""
    market = random.Random(seed)
    wild = [market.randint(0, desired) for _ in range(240)]
    group = Group(desired, lambda at: wild[int((at - NOW) // 60) % 240])
    bases = [base for _, base, _ in play(group, RULES, 240 * 60)]
    changes = [(at, now - before) for at, (before, now) in enumerate(pairwise(bases)) if before != now]
    lowered = [at for at, change in changes if change < 0]
    assert all(later - earlier >= 10 for earlier, later in pairwise(lowered))
    turns = sum((a > 0) != (b > 0) for (_, a), (_, b) in pairwise(changes))
    assert turns <= 2 * len(lowered) + 1
    assert all(1 <= base <= desired for base in bases)


@given(st.integers(2, 20), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_capacity_and_return(desired: int, seed: int) -> None:
    """After any market: with spot dry, whole on demand within five minutes; with spot back for two holds and
    the steps, at the configured base, and at rest there."""
    market = random.Random(seed)
    wild = [market.randint(0, desired) for _ in range(120)]

    def there(at: float) -> int:
        minute = int((at - NOW) // 60)
        return wild[minute] if minute < 120 else 0 if minute < 180 else 100

    group = Group(desired, there)
    seen = list(play(group, RULES, (180 + 60 + 60 + 60) * 60))
    dry = [count for at, _, count in seen if 125 * 60 <= at - NOW < 180 * 60]
    assert set(dry) == {desired}
    assert seen[-1][1:] == (1, desired)
    back = [count for at, _, count in seen if at - NOW >= 180 * 60]
    assert set(back) == {desired}
    assert {base for _, base, _ in seen[-30:]} == {1}


def test_a_long_drought_costs_few_tries() -> None:
    """In a day without spot the holds grow to the longest one: at most 30 tries, and never less than whole
    after the first minutes."""
    group = Group(6, lambda _at: 0)
    seen = list(play(group, RULES, 86_400))
    bases = [base for _, base, _ in seen]
    tries = sum(now < before for before, now in pairwise(bases))
    assert 20 <= tries <= 30
    assert {there for at, _, there in seen if at - NOW > 300} == {6}


def test_both_dry() -> None:
    """With neither to be had for an hour, the tier is whole soon after either comes back."""
    for spot_first in (True, False):
        group = Group(
            4,
            lambda at, first=spot_first: 20 if first and at - NOW > 3600 else 0,  # type: ignore[misc]
            lambda at, first=spot_first: not first and at - NOW > 3600,  # type: ignore[misc]
        )
        seen = list(play(group, RULES, 3600 * 4))
        assert seen[-1][2] == 4
