"""Target tracking, as a pure function of metrics, policies, sizes and time.

A group scales out if any policy wants it, and in only if all of them do. A policy wants more after its
metric was above the target for 3 minutes, and less after 15 minutes below 90% of it; a metric without
data wants nothing and forbids scaling in (the alarms that AWS makes for a policy behave so).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SCALE_OUT_SECONDS = 180.0
SCALE_IN_SECONDS = 900.0
_SCALE_IN_SHARE = 0.9


@dataclass(frozen=True)
class Policy:
    name: str
    target: float
    disable_scale_in: bool = False


@dataclass(frozen=True)
class Breach:
    """Since when a policy's metric has been above its target, or well below it (unix seconds)."""

    above_since: float | None = None
    below_since: float | None = None


@dataclass(frozen=True)
class Sizes:
    """`warm` members are past their warmup: only they count in the average that the metric is."""

    desired: int
    minimum: int
    maximum: int
    warm: int
    warming: int


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


def desired_capacity(
    policies: Sequence[Policy],
    values: Mapping[str, float | None],
    breaches: Mapping[str, Breach],
    sizes: Sizes,
    now: float,
    time_scale: float,
) -> int:
    """The capacity that the policies want together, within the group's bounds."""
    wants = [_wanted(policy, values.get(policy.name), sizes) for policy in policies]
    out = [
        want
        for policy, want in zip(policies, wants, strict=True)
        if _lasted(breaches[policy.name].above_since, SCALE_OUT_SECONDS * time_scale, now)
    ]
    if out and max(out) > sizes.desired:
        return min(max(out), sizes.maximum)
    if not policies or sizes.warming or any(policy.disable_scale_in for policy in policies):
        return sizes.desired
    if all(_lasted(breaches[p.name].below_since, SCALE_IN_SECONDS * time_scale, now) for p in policies):
        return min(sizes.desired, max(sizes.minimum, *wants))
    return sizes.desired


def _wanted(policy: Policy, value: float | None, sizes: Sizes) -> int:
    if value is None or not sizes.warm:
        return sizes.desired
    return math.ceil(sizes.warm * value / policy.target)


def _lasted(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds
