"""Settings of what makes a tier grow and shrink: targets that are tracked, times of the day, forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from fleet import cron
from fleet.stack.settings_base import Count, Group, Slug, when

# AWS: "Quotas for Amazon EC2 Auto Scaling", scheduled actions of a group.
MOST_SCHEDULES = 125


class Schedule(Group):
    name: Slug = Field(
        description="Name of the scheduled action.",
        json_schema_extra=when("Always. To what a person calls the time: office-hours."),
    )
    cron: str = Field(
        description="When it happens, again and again: minute, hour, day, month, weekday.",
        json_schema_extra=when("Always. `0 8 * * 1-5` is 8:00 from Monday to Friday."),
    )
    time_zone: str = Field(
        default="Etc/UTC",
        description="IANA name of the zone that cron is in.",
        json_schema_extra=when("Where load follows people's day, which summer time moves."),
    )
    min: Count | None = Field(
        default=None,
        description="The tier's least from then on; by default it stays.",
        json_schema_extra=when(
            "To keep so many nodes whatever the load is. Nothing sets it back by itself: add a schedule that "
            "does."
        ),
    )
    desired: Count | None = Field(
        default=None,
        description="What the tier has then; by default it stays, within min and max.",
        json_schema_extra=when("To have nodes ready before the load comes; policies go on from there."),
    )
    max: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="The tier's most from then on; by default it stays.",
        json_schema_extra=when("To bound the bill at night. At most the tier's capacity.max."),
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        cron.parse(value)
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        # A machine without zone data cannot tell: AWS will.
        if _zones() and value not in _zones():
            raise ValueError(f"{value!r} is no IANA time zone: use one such as Europe/Zurich")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min is None and self.desired is None and self.max is None:
            raise ValueError(f"schedule {self.name} changes nothing: set min, desired or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(
                f"schedule {self.name} has min {self.min} above max {self.max}: lower min to {self.max} or "
                f"raise max to {self.min}"
            )
        return self


class Predictive(Group):
    mode: Literal["forecast-only", "forecast-and-scale"] = Field(
        default="forecast-only",
        description="Whether the forecast is only shown, or also followed. It never shrinks a tier.",
        json_schema_extra=when(
            "forecast-and-scale once the forecast, which needs a day of history and is better after two "
            "weeks, has been right for some days."
        ),
    )
    metric: Literal["cpu", "in-flight", "requests"] = Field(
        description="What is forecast; its target is the one that is tracked.",
        json_schema_extra=when("Always: requests for gateways, in-flight for nodes with GPUs, else cpu."),
    )
    ahead_seconds: int = Field(
        default=300,
        ge=0,
        le=3599,
        description="How long before the forecast's hour nodes are launched.",
        json_schema_extra=when("To the time that a node takes from launch to its first answer."),
    )


class Scaling(Group):
    cpu_target_percent: Annotated[int, Field(ge=10, le=95)] | None = Field(
        default=70,
        description="Average CPU that scaling aims at; null where it does not look at CPU, which is the "
        "default of tiers whose engine needs GPUs.",
        json_schema_extra=when("Lower it where load comes faster than nodes boot."),
    )
    scale_in: bool = Field(
        default=True,
        description="Whether tracking also shrinks the tier (AWS: DisableScaleIn).",
        json_schema_extra=when("false where schedules or people shrink it, so that no lull does."),
    )
    schedules: tuple[Schedule, ...] = Field(
        default=(),
        max_length=MOST_SCHEDULES,
        description="Sizes at times of the day.",
        json_schema_extra=when("Where load comes by the clock; a rise needs its fall."),
    )
    predictive: Predictive | None = Field(
        default=None,
        description="Nodes by a forecast of AWS's; none by default.",
        json_schema_extra=when("Where load has the same shape every day or week and nodes boot slowly."),
    )

    @property
    def tracks(self) -> frozenset[str]:
        """Metrics that have a target."""
        return frozenset({"cpu"} if self.cpu_target_percent is not None else ())


class GatewayScaling(Scaling):
    requests_per_target: Annotated[int, Field(ge=1)] | None = Field(
        default=3000,
        description="Requests a minute and gateway that scaling aims at; null where it does not count them.",
        json_schema_extra=when("To what a gateway of your types serves at half its CPU."),
    )

    @property
    def tracks(self) -> frozenset[str]:
        return super().tracks | ({"requests"} if self.requests_per_target is not None else set())


class ModelScaling(Scaling):
    in_flight_per_node: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=16,
        description="Requests in flight per node that scaling aims at, as nodes publish them; null where "
        "they do not.",
        json_schema_extra=when(
            "To what a node of your types generates at a time while first tokens come as fast as you want; "
            "two thirds of the engine's largest batch is a beginning."
        ),
    )
    in_flight_seconds: Literal[10, 30, 60] = Field(
        default=60,
        description="How often nodes publish them, and how long each point of the metric is.",
        json_schema_extra=when(
            "10 where load comes within a minute: tracking looks as often then. Each put costs, as "
            "does a metric of high resolution."
        ),
    )

    @property
    def tracks(self) -> frozenset[str]:
        return super().tracks | ({"in-flight"} if self.in_flight_per_node is not None else set())


def problems(scaling: Scaling, least: int, most: int) -> Iterator[str]:
    """What cannot work in a tier of `least` to `most`, each by the setting's path below the tier."""
    yield from _tracking_problems(scaling, least, most)
    yield from _predictive_problems(scaling, least, most)
    names = [schedule.name for schedule in scaling.schedules]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"scaling.schedules has {', '.join(repeated)} more than once: give each its own name"
    seen: dict[tuple[str, str], str] = {}
    for schedule in scaling.schedules:
        yield from _schedule_problems(schedule, least, most)
        time = " ".join(schedule.cron.split()), schedule.time_zone
        if other := seen.get(time):
            # AWS: Scheduled scaling, considerations: "A scheduled action must have a unique time value."
            yield (
                f"scaling.schedules {other} and {schedule.name} have the same cron {time[0]!r}: move one of "
                "them by a minute"
            )
        seen.setdefault(time, schedule.name)


def _tracking_problems(scaling: Scaling, least: int, most: int) -> Iterator[str]:
    if least == most or scaling.tracks or scaling.schedules:
        return
    other = {GatewayScaling: "requestsPerTarget", ModelScaling: "inFlightPerNode"}.get(type(scaling))
    yield (
        f"capacity.min {least} is below capacity.max {most}, and nothing scales the tier: set "
        f"scaling.cpuTargetPercent to 70{f' or scaling.{other}' if other else ''}, or min to {most}"
    )


def _predictive_problems(scaling: Scaling, least: int, most: int) -> Iterator[str]:
    forecast = scaling.predictive
    if forecast is None:
        return
    targets = {"cpu": "cpuTargetPercent"}
    if isinstance(scaling, GatewayScaling):
        targets["requests"] = "requestsPerTarget"
    if isinstance(scaling, ModelScaling):
        targets["in-flight"] = "inFlightPerNode"
    if forecast.metric not in targets:
        yield (
            f"scaling.predictive.metric is {forecast.metric}, which this tier's nodes do not have: set it to "
            f"{' or '.join(targets)}"
        )
    elif forecast.metric not in scaling.tracks:
        yield (
            f"scaling.predictive.metric is {forecast.metric}, and scaling.{targets[forecast.metric]} is "
            "null: set it, for a forecast aims at the same target"
        )
    if least == most:
        yield (
            f"scaling.predictive is set, and capacity.min and capacity.max are both {most}: raise max or "
            "remove predictive"
        )


def _schedule_problems(schedule: Schedule, least: int, most: int) -> Iterator[str]:
    """A schedule's sizes among the tier's: `most` bounds the bill and the subnets' room."""
    where = f"scaling.schedules {schedule.name}"
    for key, size in (("max", schedule.max), ("min", schedule.min), ("desired", schedule.desired)):
        if size is not None and size > most:
            yield f"{where} has {key} {size} above capacity.max {most}: lower {key} to {most}, or raise max"
            return
    lowest = least if schedule.min is None else schedule.min
    highest = most if schedule.max is None else schedule.max
    if lowest > highest:
        yield f"{where} has max {highest} below min {lowest}: raise its max to {lowest}, or lower its min"
    elif schedule.desired is not None and not lowest <= schedule.desired <= highest:
        bound, name = (lowest, "min") if schedule.desired < lowest else (highest, "max")
        yield (
            f"{where} has desired {schedule.desired}, and {name} is {bound} then: set desired to {bound}, or "
            f"its {name} to {schedule.desired}"
        )


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
