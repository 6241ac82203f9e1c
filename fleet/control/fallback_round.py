"""One look at every tier of a stack: read, decide, remember, change, and say so in one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol

from fleet.control.errors import AwsFailed
from fleet.control.fallback import Decision, Memory, Rollout, decide
from fleet.control.fallback_account import TierGroup, failed_launches
from fleet.control.given_up import ended_by_checks, given_up, launches
from fleet.control.log import Log

Activities = Sequence[Mapping[str, Any]]
_MOST_NAMED: Final = 5


class Tiers(Protocol):
    """What a round asks of the account; every method may raise AwsFailed."""

    def tiers(self) -> list[TierGroup]: ...
    def spot_ids(self, group: str) -> frozenset[str]: ...
    def activities(self, group: str) -> Activities: ...
    def launch_times(self, instance_ids: Collection[str]) -> dict[str, datetime]: ...
    def rollout(self, group: str) -> Rollout: ...
    def cancel_rollout(self, group: str) -> None: ...
    def remember(self, group: str, memory: Memory) -> None: ...
    def set_base(self, group: TierGroup, base: int) -> None: ...


class Fallback:
    """Holds no state: rounds may be repeated, and overlap, in any process."""

    def __init__(self, account: Tiers, log: Log) -> None:
        self._account: Final = account
        self._log: Final = log

    def run(self, now: float) -> float | None:
        """Look at all tiers as of `now`, in unix seconds. Returns after how many seconds the next look pays,
        where that is known. Never raises AwsFailed: the next round does what this one could not."""
        try:
            groups = self._account.tiers()
        except AwsFailed as exc:
            self._log("fallback.failed", error=str(exc))
            return None
        waits = [wait for group in groups if (wait := self._guarded(group, now)) is not None]
        return min(waits, default=None)

    def _guarded(self, group: TierGroup, now: float) -> float | None:
        try:
            return self._look(group, now)
        except AwsFailed as exc:
            self._log("fallback.failed", tier=group.tier, error=str(exc))
            return None

    def _look(self, group: TierGroup, now: float) -> float | None:
        at_rest = group.at_rest(now)
        if at_rest and not group.losing:
            return None
        activities = self._account.activities(group.name)
        self._tell_of_given_up(group, activities, now)
        return None if at_rest else self._fall_back(self._bought(group, activities), now)

    def _fall_back(self, group: TierGroup, now: float) -> float | None:
        decision = decide(group.state, group.rules, group.memory, now)
        first_seen = _is_short(decision.memory) and not _is_short(group.memory)
        if decision.cancels_rollout:
            # Before anything is remembered: until it is cancelled, the tier has been short since it was.
            self._account.cancel_rollout(group.name)
            self._log("rollout.cancelled", stack=group.stack, tier=group.tier, why=decision.why)
        # First what is intended, then the change: whoever finds only the former carries it out.
        if decision.memory is not None and decision.memory != group.memory:
            self._account.remember(group.name, decision.memory)
        if decision.base != group.state.base:
            self._account.set_base(group, decision.base)
        if decision.base != group.state.base or first_seen:
            self._say(group, decision)
        return decision.again_s

    def _tell_of_given_up(self, group: TierGroup, activities: Activities, now: float) -> None:
        """Once a look for as long as it is news: an alarm counts them, and sends a rollout back."""
        ended = ended_by_checks(activities, now, group.time_scale)
        launched = launches(activities)
        # In a large tier a hundred other activities may have come since.
        if unknown := ended.keys() - launched.keys():
            launched |= self._account.launch_times(unknown)
        if nodes := given_up(ended, launched, group.grace_s, group.time_scale):
            self._log(
                "nodes.given_up",
                stack=group.stack,
                tier=group.tier,
                count=len(nodes),
                instances=list(nodes[:_MOST_NAMED]),
            )

    def _bought(self, group: TierGroup, activities: Activities) -> TierGroup:
        """With what is spot told from what is not, and whether a rollout is in the way."""
        spot_ids = self._account.spot_ids(group.name)
        spot = sum(weight for name, weight in group.weights.items() if name in spot_ids)
        on_demand = {weight for name, weight in group.weights.items() if name not in spot_ids}
        spot_failures, on_demand_failures = failed_launches(activities)
        state = replace(
            group.state,
            on_demand=sum(group.weights.values()) - spot,
            spot=spot,
            spot_failures=spot_failures,
            on_demand_failures=on_demand_failures,
            largest=max(on_demand, default=1),
            smallest=min(on_demand, default=1),
            rollout=self._account.rollout(group.name),
        )
        return replace(group, state=state)

    def _say(self, group: TierGroup, decision: Decision) -> None:
        state = group.state
        self._log(
            "fallback.decided",
            stack=group.stack,
            tier=group.tier,
            base_before=state.base,
            base_after=decision.base,
            above=decision.base - min(group.rules.base, state.maximum),
            desired=state.desired,
            in_service=state.in_service,
            on_demand=state.on_demand,
            spot=state.spot,
            spot_failures=len(state.spot_failures),
            why=decision.why,
        )


def _is_short(memory: Memory | None) -> bool:
    return memory is not None and memory.short_since is not None
