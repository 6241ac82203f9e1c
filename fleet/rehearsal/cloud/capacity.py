"""How many instances to launch and which to end: pure decisions about a group's members.

Sizes are in units of capacity. An instance is one unit, or its type's weight: capacity is at the desired one
or above it, for instances are launched until it is fulfilled, even if that is more (Auto Scaling guide,
"Configure an Auto Scaling group to use instance weights").
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.rehearsal.cloud.views import PurchaseOption


@dataclass(frozen=True)
class Split:
    """How a mixed-instances policy divides capacity; the default is all on-demand."""

    base: int = 0
    percentage: int = 100

    def on_demand(self, capacity: int) -> int:
        """On-demand instances of `capacity`: the base, and the percentage above it rounded up."""
        base = min(self.base, capacity)
        return base + math.ceil((capacity - base) * self.percentage / 100)


ALL_SPOT = Split(0, 0)


@dataclass(frozen=True)
class Fact:
    """What a decision knows of one member that is not on its way out."""

    instance_id: str
    option: PurchaseOption
    zone: str
    launched_at: float
    template_version: int
    settled: bool  # serves and is healthy: others may go for it
    leaving: bool  # goes once its replacement is settled
    protected: bool
    weight: int = 1


@dataclass(frozen=True)
class Plan:
    """What to launch, in units, and which members to replace or to end."""

    launch_on_demand: int = 0
    launch_spot: int = 0
    leave: tuple[str, ...] = ()  # to be replaced before they go
    terminate: tuple[str, ...] = ()


def ceiling(maximum: int) -> int:
    """The most that a group may have while it replaces some: its maximum and a tenth, at least one."""
    return maximum + max(1, maximum // 10)


def units(facts: Iterable[Fact]) -> int:
    return sum(fact.weight for fact in facts)


def plan(
    facts: Sequence[Fact],
    desired: int,
    split: Split,
    policies: Sequence[str] = ("Default",),
    most: int | None = None,
) -> Plan:
    """What brings the members to the desired capacity and split, with never more than `most` units.

    Members that leave serve until enough others are settled, so they do not count towards the capacity.
    """
    staying = [fact for fact in facts if not fact.leaving]
    leaving = [fact for fact in facts if fact.leaving]
    have = units(staying)
    if have > desired:
        victims = choose_victims(staying, have - desired, split.on_demand(desired), policies)
        if victims or all(fact.weight == 1 for fact in staying):
            return Plan(terminate=(*victims, *_released(staying, leaving, desired)))
    if have >= desired and not leaving and (strays := _strays(staying, desired, split)):
        return Plan(leave=strays[:1])
    on_demand = units(fact for fact in staying if fact.option == "on-demand")
    missing = max(0, desired - have)
    if leaving and most is not None:
        missing = max(0, min(missing, most - units(facts)))
    launch = min(missing, max(0, split.on_demand(desired) - on_demand))
    return Plan(launch, missing - launch, terminate=_released(staying, leaving, desired))


def choose_victims(
    facts: Sequence[Fact], surplus: int, on_demand_wanted: int, policies: Sequence[str]
) -> tuple[str, ...]:
    """Whom a scale-in ends: the side that exceeds the split, then the zone with most, then by policy. Never
    whoever is more than the surplus, or is needed on demand: it would only be launched again.
    """
    left, victims = list(facts), []
    while candidates := _may_go(left, surplus, on_demand_wanted):
        victim = _victim(left, candidates, policies)
        left.remove(victim)
        victims.append(victim.instance_id)
        surplus -= victim.weight
    return tuple(victims)


def _may_go(left: Sequence[Fact], surplus: int, on_demand_wanted: int) -> list[Fact]:
    spare = units(fact for fact in left if fact.option == "on-demand") - on_demand_wanted
    return [
        fact
        for fact in left
        if not fact.protected and fact.weight <= (surplus if fact.option == "spot" else min(surplus, spare))
    ]


def _strays(staying: Sequence[Fact], desired: int, split: Split) -> tuple[str, ...]:
    """Members bought on the side that the split has too many of, oldest first; none while any starts."""
    if not all(fact.settled for fact in staying):
        return ()
    excess = units(f for f in staying if f.option == "on-demand") - split.on_demand(desired)
    if excess > 0:
        side = [f for f in staying if f.option == "on-demand" and f.weight <= excess]
    else:
        side = [f for f in staying if f.option == "spot"] if excess < 0 else []
    return tuple(f.instance_id for f in sorted(side, key=lambda f: f.launched_at) if not f.protected)


def _released(staying: Sequence[Fact], leaving: Sequence[Fact], desired: int) -> tuple[str, ...]:
    """The leaving members that are no longer needed."""
    spare = units(fact for fact in staying if fact.settled) + units(leaving) - desired
    released = []
    for fact in sorted(leaving, key=lambda f: f.launched_at):
        if fact.weight <= spare:
            released.append(fact.instance_id)
            spare -= fact.weight
    return tuple(released)


def _victim(left: Sequence[Fact], candidates: Sequence[Fact], policies: Sequence[str]) -> Fact:
    # Who may go on demand is more than the split wants of that side.
    side = [fact for fact in candidates if fact.option == "on-demand"] or candidates
    zones = Counter(fact.zone for fact in left)
    fullest = max(zones[fact.zone] for fact in side)
    return min((f for f in side if zones[f.zone] == fullest), key=lambda f: _rank(f, policies))


def _rank(fact: Fact, policies: Sequence[str]) -> tuple[float, ...]:
    keys = {
        "OldestInstance": fact.launched_at,
        "NewestInstance": -fact.launched_at,
        "OldestLaunchTemplate": float(fact.template_version),
    }
    chosen = [keys[policy] for policy in policies if policy in keys]
    return (*chosen, float(fact.template_version), fact.launched_at)
