"""Settings of what a tier buys: named types, or whatever fits requirements, on demand and spot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from fleet.stack.instance_types import has_gpu, processor
from fleet.stack.settings_base import Count, Group, InstanceType, wanted, when

# AWS: WeightedCapacity, 1 to 999.
Weight = Annotated[int, Field(ge=1, le=999)]
TypePattern = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9*][a-z0-9.*-]{0,29}$"),
    wanted("a type or a pattern such as t3.*"),
]


class Range(Group):
    min: int = Field(ge=0, description="The least.", json_schema_extra=when("Always: AWS asks for it."))
    max: int | None = Field(
        default=None,
        ge=0,
        description="The most; by default there is no limit.",
        json_schema_extra=when("To keep types out that are larger than you want to pay for."),
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(
                f"min {self.min} is above max {self.max}: lower min to {self.max} or raise max to {self.min}"
            )
        return self


class Requirements(Group):
    vcpus: Range = Field(
        description="Virtual processors.", json_schema_extra=when("Always: AWS asks for it.")
    )
    memory_gib: Range = Field(
        description="Memory, in GiB.", json_schema_extra=when("Always: AWS asks for it.")
    )
    gpus: Range = Field(
        default=Range(min=0, max=0),
        description="GPUs of NVIDIA; none by default.",
        json_schema_extra=when(
            "Where the engine needs GPUs: {min: 1, max: 1}, or as many as it is made for."
        ),
    )
    gpu_memory_gib: Range | None = Field(
        default=None,
        description="Memory of all GPUs together, in GiB.",
        json_schema_extra=when("Where the model needs so much: its weights, and room for the KV cache."),
    )
    local_storage: Literal["included", "excluded", "required"] = Field(
        default="included",
        description="Types with disks of their own.",
        json_schema_extra=when("required where weights are fetched to NVMe."),
    )
    excluded_types: tuple[TypePattern, ...] = Field(
        default=(),
        max_length=400,
        description="Types that are not to be used, with * for any text.",
        json_schema_extra=when("Where a type fits the numbers and not the engine, as old GPUs do."),
    )
    spot_price_percent: int | None = Field(
        default=None,
        ge=1,
        le=999,
        description="The most that spot may cost, in percent of the cheapest fitting type's on-demand price; "
        "by default AWS's own protection, which with GPUs is wide.",
        json_schema_extra=when("Where a costly type must not be taken even when it is all that there is."),
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.gpu_memory_gib is not None and self.gpus.max == 0:
            raise ValueError("gpuMemoryGib is set and gpus.max is 0: raise gpus.max or remove gpuMemoryGib")
        return self


class Purchase(Group):
    instance_types: tuple[InstanceType, ...] = Field(
        default=(),
        min_length=1,
        max_length=40,
        description="Types in the order in which on-demand prefers them; the more, the deeper spot is.",
        json_schema_extra=when("Always, unless there are requirements. At least three; ten are better."),
    )
    weights: Mapping[InstanceType, Weight] | None = Field(
        default=None,
        description="Units of capacity that a node of each type is; by default every node counts as one.",
        json_schema_extra=when(
            "Where types of different sizes stand for one another. All types have one or none has, and "
            "capacity and onDemandBase are in these units then."
        ),
    )
    requirements: Requirements | None = Field(
        default=None,
        description="What a type must have, instead of a list of types: AWS takes all that fit.",
        json_schema_extra=when(
            "Where spot is to be as deep as can be, and new types are to be used unasked."
        ),
    )
    on_demand_base: Count = Field(
        description="Nodes that are on demand before any is spot.",
        json_schema_extra=when("At least 1 in production, for spot can take all others at once."),
    )
    on_demand_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Share of on-demand nodes above the base.",
        json_schema_extra=when(
            "Raise it where losing many nodes at once must not be felt; 100 is without spot."
        ),
    )

    @property
    def only_on_demand(self) -> bool:
        return self.on_demand_percent == 100

    @property
    def lightest(self) -> int:
        """Units of capacity of the smallest node."""
        return min(self.weights.values()) if self.weights else 1

    @property
    def may_lack_gpu(self) -> tuple[str, ...]:
        """Types, or requirements, that are without a GPU."""
        if self.requirements is not None:
            return ("gpus.min 0",) if self.requirements.gpus.min == 0 else ()
        return tuple(kind for kind in self.instance_types if not has_gpu(kind))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := [*_form_problems(self), *_type_problems(self.instance_types)]:
            raise ValueError("; ".join(problems))
        return self


def _form_problems(purchase: Purchase) -> Iterator[str]:
    if not purchase.instance_types and purchase.requirements is None:
        yield "instanceTypes is missing: list the types, or write requirements"
    if purchase.instance_types and purchase.requirements is not None:
        yield "instanceTypes and requirements exclude each other: remove one of the two"
    if purchase.weights is None:
        return
    if purchase.requirements is not None:
        yield "weights are for instanceTypes, and there are requirements: remove weights"
        return
    types = purchase.instance_types
    if lacking := [kind for kind in types if kind not in purchase.weights]:
        yield f"weights lacks {', '.join(lacking)}: give every type a weight or none"
    if foreign := [kind for kind in purchase.weights if kind not in types]:
        yield f"weights has {', '.join(foreign)}, and instanceTypes does not: remove it or add the type"


def _type_problems(types: tuple[str, ...]) -> Iterator[str]:
    if repeated := sorted({t for t in types if types.count(t) > 1}):
        yield f"instanceTypes names {', '.join(repeated)} more than once: remove the copies"
    if len({processor(t) for t in types}) > 1:
        listed = ", ".join(f"{t} is {processor(t)}" for t in types)
        yield f"instanceTypes mixes processors, and an image has one ({listed}): keep one kind"
