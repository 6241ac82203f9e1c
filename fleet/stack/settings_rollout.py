"""Settings of how a new image, or whatever else a tier launches, reaches the nodes that run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.stack.settings_base import Group, when

# AWS: RefreshPreferences, checkpoint delay and bake time; the widest range of percentages.
_MOST_SECONDS = 172_800
_MOST_APART = 100
# A policy asks for it: what a fleet promises its clients holds while it is rolled out, too.
_LEAST_HEALTHY = 90


class Rollout(Group):
    min_healthy_percent: int = Field(
        default=100,
        ge=_LEAST_HEALTHY,
        le=100,
        description="Share of the desired nodes that serve all the while; a share of a node is a node.",
        json_schema_extra=when("Lower it where a tier is large and nodes beyond it cannot be had."),
    )
    max_healthy_percent: int = Field(
        default=110,
        ge=100,
        le=_LEAST_HEALTHY + _MOST_APART,
        description="Share of the desired nodes that there may be meanwhile; above 100, new nodes come "
        "before old ones go, at least one.",
        json_schema_extra=when(
            "Raise it to be faster. A spot tier needs the capacity: a rollout that cannot launch waits for "
            "an hour and rolls back. 100 where quotas or GPUs leave no room."
        ),
    )
    checkpoint_percents: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        default=(10, 100),
        description="Shares of a tier that are new before a rollout stops to be looked at; ends at 100.",
        json_schema_extra=when("Add steps where a fault shows under load only: [10, 50, 100]."),
    )
    checkpoint_delay_seconds: int = Field(
        default=600,
        ge=0,
        le=_MOST_SECONDS,
        description="How long it stops there; an alarm meanwhile rolls back.",
        json_schema_extra=when("Longer than the alarms need to see a fault: some look at 5 minutes."),
    )
    bake_seconds: int = Field(
        default=600,
        ge=0,
        le=_MOST_SECONDS,
        description="How long alarms are watched once all nodes are new; until then everything can go back.",
        json_schema_extra=when("Raise it where faults show late, such as leaks."),
    )
    watch_alarms: bool = Field(
        default=True,
        description="Whether alarms about clients and about this tier fail a rollout.",
        json_schema_extra=when("false only where they ring for reasons that have nothing to do with nodes."),
    )
    protected_nodes: Literal["refresh", "ignore", "wait"] = Field(
        default="refresh",
        description="What becomes of nodes protected from scale-in: replaced like others, left as they are, "
        "or waited for, for an hour.",
        json_schema_extra=when("ignore where people protect nodes that they look into."),
    )
    standby_nodes: Literal["terminate", "ignore", "wait"] = Field(
        default="ignore",
        description="What becomes of nodes in standby: ended, left as they are, or waited for, for an hour.",
        json_schema_extra=when("Seldom: a person put them there."),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := list(_problems(self)):
            raise ValueError("; ".join(problems))
        return self


def _problems(of: Rollout) -> Iterator[str]:
    points = list(of.checkpoint_percents)
    if not points or points != sorted(set(points)) or points[-1] != 100:
        yield (
            f"checkpointPercents is {points}: name each share once, in ascending order, and end with 100, "
            "for the rest of the nodes would stay old"
        )
    least, most = of.min_healthy_percent, of.max_healthy_percent
    if most - least > _MOST_APART:
        yield (
            f"maxHealthyPercent {most} is more than {_MOST_APART} above minHealthyPercent {least}, which AWS "
            f"refuses: lower it to {least + _MOST_APART}"
        )


def room_problem(of: Rollout, nodes: int) -> str | None:
    """Why a tier of so few nodes cannot keep what `of` states, or None when it can.

    AWS would break the maximum then, and launch a node beyond it.
    """
    least, nodes = of.min_healthy_percent, max(1, nodes)
    if of.max_healthy_percent > 100 or math.ceil(nodes * least / 100) < nodes:
        return None
    lower = 100 * (nodes - 1) // nodes
    or_lower = f", or lower minHealthyPercent to {lower}" if lower >= _LEAST_HEALTHY else ""
    return (
        f"rollout.maxHealthyPercent is 100, and minHealthyPercent {least} of {nodes} nodes is all of them: "
        "none could be replaced; raise maxHealthyPercent to 110, so that new nodes come before old ones "
        f"go{or_lower}"
    )
