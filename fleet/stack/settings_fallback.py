"""Settings of what a tier does when spot has nothing to give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from fleet.stack.settings_base import Group, when


class Fallback(Group):
    enabled: bool = Field(
        default=True,
        description="Whether the control handler raises the on-demand base while spot launches fail, and "
        "lowers it when spot is back. A tier without spot has no use for it.",
        json_schema_extra=when(
            "false where a smaller tier is better than a costlier one, or to set the base by hand."
        ),
    )
    after_seconds: int = Field(
        default=30,
        ge=0,
        le=3600,
        description="How long spot nodes must have been missing, with launches that fail, before nodes are "
        "bought on demand. A rollout in the way is cancelled after ten times that, at least 5 minutes.",
        json_schema_extra=when(
            "Raise it where spot is back in a minute as a rule; below 30 a single failed launch is enough."
        ),
    )
    hold_seconds: int = Field(
        default=300,
        ge=60,
        le=86_400,
        description="How long a raised base is held, and every step on the way down.",
        json_schema_extra=when("Raise it where spot comes and goes; the base turns twice a hold at most."),
    )
    longest_hold_seconds: int = Field(
        default=3600,
        ge=60,
        le=604_800,
        description="The most that the hold grows to: it doubles with every step that spot does not follow.",
        json_schema_extra=when("Lower it where an hour on demand after spot is back is too dear."),
    )
    most: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="The most that the base is raised to; by default capacity.max.",
        json_schema_extra=when("To bound the bill; what is missing beyond it is missing until spot is back."),
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hold_seconds > self.longest_hold_seconds:
            raise ValueError(
                f"holdSeconds {self.hold_seconds} is above longestHoldSeconds {self.longest_hold_seconds}: "
                f"raise longestHoldSeconds to {self.hold_seconds} or lower holdSeconds"
            )
        return self


def problems(fallback: Fallback, base: int, most: int) -> Iterator[str]:
    """What cannot work in a tier with `base` on demand of at most `most`, by the setting's path below it."""
    if fallback.most is None:
        return
    if fallback.most < base:
        yield (
            f"fallback.most {fallback.most} is below purchase.onDemandBase {base}: raise most to {base}, or "
            f"lower onDemandBase to {fallback.most}"
        )
    if fallback.most > most:
        yield (
            f"fallback.most {fallback.most} is above capacity.max {most}: lower most to {most}, or remove it"
        )
