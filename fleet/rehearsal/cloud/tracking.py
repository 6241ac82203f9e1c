"""Target tracking, as a pure function of metrics, policies, sizes and time.

A group scales out if any policy wants it, and in only if all whose scale-in is enabled do (Auto Scaling
guide, "Multiple target tracking scaling policies"). A policy wants more after its metric was above the
target for 3 periods, and less after 15 minutes below 90 % of it, as the alarms that AWS makes for a policy
have it. A metric without data wants nothing and forbids scaling in. What AWS counts for scaling in by a
metric of high resolution it does not say; here it is 15 minutes too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SCALE_OUT_PERIODS = 3
SCALE_IN_SECONDS = 900.0
_SCALE_IN_SHARE = 0.9

Why = Literal[
    "above its target", "at the maximum", "rising", "warming up", "no data", "scale-in is off",
    "below its target", "at the minimum", "falling", "near its target",
]  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """`period` is how long each of the metric's points is, in AWS's seconds."""

    name: str
    target: float
    disable_scale_in: bool = False
    period: float = 60.0
    metric: str = ""


@dataclass(frozen=True)
class Breach:
    """Since when a policy's metric has been above its target, or well below it (unix seconds)."""

    above_since: float | None = None
    below_since: float | None = None


@dataclass(frozen=True)
class Sizes:
    """In units of capacity. `warm` members are past their warmup: only they count in the average that the
    metric is.
    """

    desired: int
    minimum: int
    maximum: int
    warm: int
    warming: int


@dataclass(frozen=True)
class Decision:
    """What became of one look. `policy`, `metric`, `value` and `target` are those that decided."""

    at: float
    before: int
    after: int
    why: Why
    policy: str
    metric: str
    value: float | None
    target: float
    lasted_s: float = 0.0
    """For how long the metric had been there, in real seconds."""


def observe(before: Breach, policy: Policy, value: float | None, now: float) -> Breach:
    """The breach after one more look at the metric."""
    if value is None:
        return Breach()
    above = value > policy.target
    below = value < policy.target * _SCALE_IN_SHARE
    return Breach(
        (before.above_since if before.above_since is not None else now) if above else None,
        (before.below_since if before.below_since is not None else now) if below else None,
    )


def decide(
    policies: Sequence[Policy],
    values: Mapping[str, float | None],
    breaches: Mapping[str, Breach],
    sizes: Sizes,
    now: float,
    time_scale: float,
) -> Decision:
    """The capacity that the policies want together, within the group's bounds. There is at least one."""
    look = _Look(values, breaches, sizes, now, time_scale)
    return look.outwards(policies) or look.inwards(policies)


@dataclass(frozen=True)
class _Look:
    values: Mapping[str, float | None]
    breaches: Mapping[str, Breach]
    sizes: Sizes
    now: float
    time_scale: float

    def outwards(self, policies: Sequence[Policy]) -> Decision | None:
        """To the most that any policy wants; None where none is above its target."""
        above = [p for p in policies if self.breaches[p.name].above_since is not None]
        if not above:
            return None
        due = [p for p in above if self._above_s(p) >= SCALE_OUT_PERIODS * p.period * self.time_scale]
        if not due:
            longest = max(above, key=self._above_s)
            return self._stay("rising", longest, self._above_s(longest))
        most = max(due, key=self._wants)
        desired = min(self._wants(most), self.sizes.maximum)
        if desired > self.sizes.desired:
            return self._decision(desired, "above its target", most, self._above_s(most))
        if self.sizes.desired >= self.sizes.maximum:
            return self._stay("at the maximum", most, self._above_s(most))
        return self._stay(
            "warming up" if self.sizes.warming else "near its target", most, self._above_s(most)
        )

    def inwards(self, policies: Sequence[Policy]) -> Decision:
        """To the most that any policy wants whose scale-in is enabled, once all of them want less."""
        shrinking = [policy for policy in policies if not policy.disable_scale_in]
        if not shrinking:
            return self._stay("scale-in is off", policies[0])
        for policy, why in self._against(shrinking):
            return self._stay(why, policy)
        latest = min(shrinking, key=self._below_s)
        if self._below_s(latest) < SCALE_IN_SECONDS * self.time_scale:
            return self._stay("falling", latest, self._below_s(latest))
        most = max(shrinking, key=self._wants)
        desired = min(self.sizes.desired, max(self.sizes.minimum, self._wants(most)))
        if desired < self.sizes.desired:
            return self._decision(desired, "below its target", most, self._below_s(most))
        bottom = self.sizes.desired <= self.sizes.minimum
        return self._stay("at the minimum" if bottom else "near its target", most, self._below_s(most))

    def _against(self, policies: Sequence[Policy]) -> Iterator[tuple[Policy, Why]]:
        for policy in policies:
            if self.values.get(policy.name) is None:
                yield policy, "no data"
            elif self.breaches[policy.name].below_since is None:
                yield policy, "near its target"
        if self.sizes.warming:
            yield policies[0], "warming up"

    def _wants(self, policy: Policy) -> int:
        value = self.values.get(policy.name)
        if value is None or not self.sizes.warm:
            return self.sizes.desired
        return math.ceil(self.sizes.warm * value / policy.target)

    def _above_s(self, policy: Policy) -> float:
        since = self.breaches[policy.name].above_since
        return 0.0 if since is None else self.now - since

    def _below_s(self, policy: Policy) -> float:
        since = self.breaches[policy.name].below_since
        return 0.0 if since is None else self.now - since

    def _stay(self, why: Why, policy: Policy, lasted_s: float = 0.0) -> Decision:
        return self._decision(self.sizes.desired, why, policy, lasted_s)

    def _decision(self, after: int, why: Why, policy: Policy, lasted_s: float) -> Decision:
        return Decision(
            at=self.now,
            before=self.sizes.desired,
            after=after,
            why=why,
            policy=policy.name,
            metric=policy.metric or policy.name,
            value=self.values.get(policy.name),
            target=policy.target,
            lasted_s=lasted_s,
        )
