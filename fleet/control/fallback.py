"""How many nodes of a tier are to be on demand, given how spot does. Pure, and the same however often asked.

An Auto Scaling group keeps its split: it never buys on demand what spot cannot give. So its on-demand base is
raised by what is missing, and lowered again, a step at a time, to find out whether spot is back. A step costs
no capacity: on a lower base the group launches a spot node first and ends an on-demand node afterwards
(CloudFormation, InstancesDistribution: an update "means a gradual replacement of instances", which "launches
new instances before terminating the previous ones"), and where no spot node comes nothing ends.
docs/fallback.md has the table of all decisions.

Numbers of nodes are in the group's units of capacity, times in unix seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

# Beyond that a doubled hold is above any longest one.
_MOST_FAILED = 16

Rollout = Literal["none", "runs", "goes back"]
"""While one runs or goes back, AWS refuses every change of the base."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A tier's settings. `base` is the least that is on demand, `most` what the base may be raised to."""

    base: int
    most: int
    after_s: float
    hold_s: float
    longest_hold_s: float
    enabled: bool = True
    rollout_patience_s: float = 300.0
    """How long a tier is short of spot before a rollout gives way."""

    def hold(self, failed: int) -> float:
        """How long after `failed` steps in vain the next one is tried."""
        return float(min(self.longest_hold_s, self.hold_s * 2 ** min(failed, _MOST_FAILED)))

    @property
    def recent_s(self) -> float:
        """How old a failed launch may be and still say something about now."""
        return max(self.hold_s, 10 * self.after_s)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the last decision leaves to the next: the base that was asked for, and when."""

    base: int
    at: float
    lowered: int = 0
    """By this step; 0 after a raise."""
    failed: int = 0
    """Steps in a row that spot did not follow."""
    short_since: float | None = None


@dataclass(frozen=True, slots=True)
class TierState:
    """`on_demand` and `spot` are what serves or starts. Failures are times of failed launches."""

    tier: str
    desired: int
    maximum: int
    base: int
    percent: int
    on_demand: int
    spot: int
    in_service: int
    spot_failures: tuple[float, ...] = ()
    on_demand_failures: tuple[float, ...] = ()
    largest: int = 1
    """Of the nodes on demand: a smaller step might change nothing."""
    smallest: int = 1
    """Of the nodes on demand: with less than that too much, the group has what it wants."""
    rollout: Rollout = "none"

    @property
    def spot_missing(self) -> int:
        """What the group wants of spot and has not."""
        wanted = on_demand_of(self.desired, self.base, self.percent)
        rounded = wanted < self.on_demand < wanted + self.smallest
        return self.desired - (self.on_demand if rounded else wanted) - self.spot

    @property
    def whole(self) -> bool:
        return self.on_demand + self.spot >= self.desired


@dataclass(frozen=True, slots=True)
class Decision:
    """`memory` is to be kept, None where nothing is known yet. `again_s`: look again so soon."""

    base: int
    memory: Memory | None
    why: str
    again_s: float | None = None
    cancels_rollout: bool = False
    """First, or AWS would refuse the base."""


def on_demand_of(desired: int, base: int, percent: int) -> int:
    """What is on demand of `desired`: the base, and the percentage above it rounded up."""
    least = min(base, desired)
    return least + math.ceil((desired - least) * percent / 100)


def base_for(on_demand: int, desired: int, percent: int) -> int:
    """The least base of which `on_demand` of `desired` are on demand."""
    return next((n for n in range(desired) if on_demand_of(desired, n, percent) >= on_demand), desired)


def decide(state: TierState, rules: Rules, memory: Memory | None, now: float) -> Decision:
    """What the base is to be now, why, and what to remember."""
    wanted = _decide(state, rules, memory, now)
    if state.rollout == "none" or wanted.base == state.base:
        return wanted
    return _beside_rollout(state, rules, memory, wanted, now)


def _beside_rollout(
    state: TierState, rules: Rules, memory: Memory | None, wanted: Decision, now: float
) -> Decision:
    """A change waits for the rollout's end, and a shortage only so long: then the rollout is cancelled, for
    capacity comes before news. One that goes back is left alone: what it takes away may be harmful.
    """
    fails = any(now - at <= rules.recent_s for at in state.spot_failures)
    if wanted.base < state.base or state.whole or not fails:
        waiting = None if memory is None else replace(memory, short_since=None)
        return Decision(state.base, waiting, f"{wanted.why}; a rollout {state.rollout}")
    known = memory or Memory(state.base, now)
    since = now if known.short_since is None else known.short_since
    left_s = since + rules.rollout_patience_s - now
    if state.rollout == "runs" and left_s <= 0:
        return replace(wanted, why=f"{wanted.why}; the rollout gives way", cancels_rollout=True)
    again_s = left_s if state.rollout == "runs" else None
    waiting = replace(known, short_since=since)
    return Decision(state.base, waiting, f"{wanted.why}; a rollout {state.rollout}", again_s)


def _decide(state: TierState, rules: Rules, memory: Memory | None, now: float) -> Decision:
    least = min(rules.base, state.maximum)
    most = max(least, min(rules.most, state.maximum))
    if not rules.enabled:
        return _switched_off(state, memory, least, now)
    if found := _out_of_bounds(state, memory, least, most, now):
        return found
    if memory is not None and memory.lowered and memory.base < state.base and now - memory.at < rules.after_s:
        # Another look has just decided it, and its change is on its way, or died with it.
        target = max(least, memory.base)
        return Decision(target, replace(memory, base=target), "as has just been decided")
    known = _known(state, memory, least, now)
    failures = [at for at in state.spot_failures if now - at <= rules.recent_s]
    if known is not None:
        failures = [at for at in failures if at > known.at]
    if state.spot_missing > 0 and failures:
        return _short(state, rules, known, now, newest=max(failures), most=most)
    if known is not None and known.short_since is not None:
        known = replace(known, short_since=None)
    if known is None or state.base <= least:
        return Decision(state.base, known, "spot does what is asked of it")
    return _lower(state, rules, known, now, least)


def _known(state: TierState, memory: Memory | None, least: int, now: float) -> Memory | None:
    """A base that somebody else raised is held as if raised here, and lowered in the same way."""
    if memory is not None and memory.base == state.base:
        return replace(memory, at=min(memory.at, now))
    return Memory(state.base, now) if memory is not None or state.base > least else None


def _switched_off(state: TierState, memory: Memory | None, least: int, now: float) -> Decision:
    """What was raised here is taken back; what others set is theirs."""
    if memory is not None and memory.base == state.base > least:
        return Decision(least, Memory(least, now), "fallback is switched off")
    return Decision(state.base, memory, "fallback is switched off")


def _out_of_bounds(
    state: TierState, memory: Memory | None, least: int, most: int, now: float
) -> Decision | None:
    if state.base > most:
        return Decision(most, Memory(most, now), f"no more than {most} may be on demand")
    asked = min(most, memory.base) if memory is not None else least
    if state.base < asked and memory is not None and asked > least:
        # An update of the stack sends the configured base along, and so undoes what was raised.
        return Decision(asked, Memory(asked, now, failed=memory.failed), "an update took the base back")
    if state.base < least:
        return Decision(least, Memory(least, now), f"{least} are to be on demand at least")
    return None


def _short(
    state: TierState, rules: Rules, known: Memory | None, now: float, *, newest: float, most: int
) -> Decision:
    """Spot nodes are wanted, do not come, and launches fail."""
    waiting = known or Memory(state.base, newest - rules.after_s)
    since = waiting.short_since if waiting.short_since is not None else newest
    waiting = replace(waiting, short_since=since)
    what = f"{state.spot_missing} of spot missing"
    left_s = since + rules.after_s - now
    if left_s > 0:
        return Decision(state.base, waiting, f"{what}, for {now - since:.0f} s so far", left_s)
    target = min(most, base_for(state.desired - state.spot, state.desired, state.percent))
    if target <= state.base:
        return Decision(state.base, waiting, f"{what}, and no more may be on demand")
    failed = _failed_after_raise(rules, waiting, now)
    because = "spot is not back" if failed > waiting.failed and state.whole else what
    return Decision(target, Memory(target, now, failed=failed), because)


def _failed_after_raise(rules: Rules, memory: Memory, now: float) -> int:
    """A raise soon after a step says that the step was in vain; later it is a shortage of its own."""
    if not memory.lowered:
        return memory.failed
    in_vain = now - memory.at < rules.hold(memory.failed)
    return min(_MOST_FAILED, memory.failed + 1) if in_vain else 0


def _lower(state: TierState, rules: Rules, known: Memory, now: float, least: int) -> Decision:
    # Once spot has followed a step, the next one waits no longer than a first one.
    hold_s = rules.hold_s if known.lowered else rules.hold(known.failed)
    quiet_since = max([known.at, *state.spot_failures])
    left_s = quiet_since + hold_s - now
    if left_s > 0:
        return Decision(state.base, known, f"holds for {hold_s:.0f} s", left_s)
    # With neither to be had, asking for a different one is better than asking for the same.
    stuck = not state.whole and any(at > known.at for at in state.on_demand_failures)
    if not stuck and (not state.whole or state.spot_missing > 0):
        return Decision(state.base, known, "the group is still at the last change")
    step = max(state.largest, 2 * known.lowered)
    target = max(least, min(state.base, state.desired) - step)
    failed = 0 if known.lowered else known.failed
    why = "neither spot nor on demand is to be had: trying spot" if stuck else "trying whether spot is back"
    if known.lowered and not stuck:
        why = "spot is back"
    return Decision(target, Memory(target, now, lowered=step, failed=failed), why, rules.after_s)
