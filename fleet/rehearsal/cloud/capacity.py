"""How many instances to launch and which to end: pure decisions about a group's members."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
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


@dataclass(frozen=True)
class Plan:
    launch_on_demand: int = 0
    launch_spot: int = 0
    leave: tuple[str, ...] = ()  # to be replaced before they go
    terminate: tuple[str, ...] = ()


def ceiling(maximum: int) -> int:
    """The most members a group may have while it replaces some: its maximum and a tenth, at least one."""
    return maximum + max(1, maximum // 10)


def plan(
    facts: Sequence[Fact],
    desired: int,
    split: Split,
    policies: Sequence[str] = ("Default",),
    most: int | None = None,
) -> Plan:
    """What brings the members to the desired capacity and split, with never more than `most` members.

    Members that leave serve until enough others are settled, so they do not count towards the capacity.
    """
    staying = [fact for fact in facts if not fact.leaving]
    leaving = [fact for fact in facts if fact.leaving]
    if len(staying) > desired:
        victims = choose_victims(staying, len(staying) - desired, split.on_demand(desired), policies)
        return Plan(terminate=(*victims, *_released(staying, leaving, desired)))
    if len(staying) == desired and not leaving and (strays := _strays(staying, desired, split)):
        return Plan(leave=strays[:1])
    on_demand = sum(1 for fact in staying if fact.option == "on-demand")
    missing = desired - len(staying)
    if leaving and most is not None:
        missing = max(0, min(missing, most - len(facts)))
    launch = min(missing, max(0, split.on_demand(desired) - on_demand))
    return Plan(launch, missing - launch, terminate=_released(staying, leaving, desired))


def choose_victims(
    facts: Sequence[Fact], count: int, on_demand_wanted: int, policies: Sequence[str]
) -> tuple[str, ...]:
    """Whom a scale-in ends: the side that exceeds the split, then the zone with most, then by policy."""
    left, victims = list(facts), []
    for _ in range(count):
        candidates = [fact for fact in left if not fact.protected]
        if not candidates:
            break
        victim = _victim(left, candidates, on_demand_wanted, policies)
        left.remove(victim)
        victims.append(victim.instance_id)
    return tuple(victims)


def _strays(staying: Sequence[Fact], desired: int, split: Split) -> tuple[str, ...]:
    """Members bought on the side that the split has too many of, oldest first; none while any starts."""
    if not all(fact.settled for fact in staying):
        return ()
    on_demand = [fact for fact in staying if fact.option == "on-demand"]
    spot = [fact for fact in staying if fact.option == "spot"]
    excess = len(on_demand) - split.on_demand(desired)
    side = on_demand[:excess] if excess > 0 else spot[: max(0, -excess)]
    return tuple(f.instance_id for f in sorted(side, key=lambda f: f.launched_at) if not f.protected)


def _released(staying: Sequence[Fact], leaving: Sequence[Fact], desired: int) -> tuple[str, ...]:
    """The leaving members that are no longer needed."""
    settled = sum(1 for fact in staying if fact.settled)
    count = min(len(leaving), max(0, settled + len(leaving) - desired))
    return tuple(fact.instance_id for fact in sorted(leaving, key=lambda f: f.launched_at)[:count])


def _victim(
    left: Sequence[Fact], candidates: Sequence[Fact], on_demand_wanted: int, policies: Sequence[str]
) -> Fact:
    on_demand = [fact for fact in candidates if fact.option == "on-demand"]
    spot = [fact for fact in candidates if fact.option == "spot"]
    too_many = sum(1 for fact in left if fact.option == "on-demand") > on_demand_wanted
    side = (on_demand or spot) if too_many else (spot or on_demand)
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
