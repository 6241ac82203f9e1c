"""Settings of a tier: one Auto Scaling group, of gateways or of nodes that generate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.stack.instance_types import has_gpu, processor
from fleet.stack.naming import tier_name_problem
from fleet.stack.settings_base import Count, Group, InstanceType, Slug
from fleet.stack.settings_scaling import GatewayScaling, Scaling

GPU_ENGINES = ("vllm", "tgi", "sglang")


class Capacity(Group):
    min: Count = Field(description="Fewest nodes.")
    desired: Count = Field(description="Nodes to begin with; scaling changes it from then on.")
    max: Annotated[int, Field(ge=1, le=1000)] = Field(description="Most nodes.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if problems := list(_capacity_problems(self)):
            raise ValueError("; ".join(problems))
        return self


class Purchase(Group):
    instance_types: tuple[InstanceType, ...] = Field(
        min_length=1,
        max_length=40,
        description="Types in the order in which on-demand prefers them; the more, the deeper spot is.",
    )
    on_demand_base: Count = Field(description="Nodes that are on demand before any is spot.")
    on_demand_percent: int = Field(
        default=0, ge=0, le=100, description="Share of on-demand nodes above the base."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := list(_type_problems(self.instance_types)):
            raise ValueError("; ".join(problems))
        return self


class Volumes(Group):
    root_gib: int = Field(default=30, ge=8, le=16384, description="Size of the root volume.")
    root_mibps: int = Field(
        default=125,
        ge=125,
        le=1000,
        description="Least throughput of the root volume; an image whose weights lie on it may ask for more.",
    )


class Drain(Group):
    # A spot notice gives 120 s, and the group deregisters before it calls the hook.
    deregistration_delay_seconds: int = Field(
        default=90, ge=0, le=90, description="How long requests in flight may go on after deregistration."
    )


class Boot(Group):
    grace_seconds: int = Field(
        default=300, ge=30, le=7200, description="How long a new node may be unhealthy before it is replaced."
    )
    warmup_seconds: int = Field(
        default=120, ge=0, le=3600, description="How long a new node does not count in scaling metrics."
    )


class BaseTier(Group):
    name: Slug = Field(description="Name of the tier, in the names of what it is made of.")
    recipe: Slug = Field(description="Recipe of the image that nodes boot.")
    channel: Literal["dev", "stage", "prod"] = Field(description="Channel whose image `up` pins.")
    capacity: Capacity = Field(description="How many nodes.")
    purchase: Purchase = Field(description="Which instances, and which of them on demand.")
    scaling: Scaling = Field(default=Scaling(), description="What makes it grow and shrink.")
    volumes: Volumes = Field(default=Volumes(), description="The nodes' disks.")
    boot: Boot = Field(default=Boot(), description="How long a new node takes.")
    drain: Drain = Field(default=Drain(), description="How a node leaves.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := list(_tier_problems(self)):
            raise ValueError("; ".join(problems))
        return self


class GatewayTier(BaseTier):
    role: Literal["gateway"] = Field(description="CPU nodes that clients talk to.")
    scaling: GatewayScaling = Field(default=GatewayScaling(), description="What makes it grow and shrink.")


class ModelTier(BaseTier):
    role: Literal["model"] = Field(description="Nodes that generate.")
    engine: Literal["embedded", "llama-server", "sglang", "tgi", "vllm"] = Field(
        description="Model server that the image starts."
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        without = [t for t in self.purchase.instance_types if not has_gpu(t)]
        if self.engine in GPU_ENGINES and without:
            raise ValueError(
                f"engine {self.engine} needs GPUs, and purchase.instanceTypes has {', '.join(without)} "
                "without: remove them, or set engine to llama-server or embedded"
            )
        return self


Tier = Annotated[GatewayTier | ModelTier, Field(discriminator="role")]


def _capacity_problems(of: Capacity) -> Iterator[str]:
    if of.desired < of.min:
        yield (
            f"desired {of.desired} is below min {of.min}: raise desired to {of.min} or lower min to "
            f"{of.desired}"
        )
    if of.desired > of.max:
        yield (
            f"desired {of.desired} is above max {of.max}: lower desired to {of.max} or raise max to "
            f"{of.desired}"
        )
    if of.min > of.max:
        yield f"min {of.min} is above max {of.max}: lower min to {of.max} or raise max to {of.min}"


def _type_problems(types: tuple[str, ...]) -> Iterator[str]:
    if repeated := sorted({t for t in types if types.count(t) > 1}):
        yield f"instanceTypes names {', '.join(repeated)} more than once: remove the copies"
    if len({processor(t) for t in types}) > 1:
        listed = ", ".join(f"{t} is {processor(t)}" for t in types)
        yield f"instanceTypes mixes processors, and an image has one ({listed}): keep one kind"


def _tier_problems(tier: BaseTier) -> Iterator[str]:
    if problem := tier_name_problem(tier.name):
        yield problem
    base, most = tier.purchase.on_demand_base, tier.capacity.max
    if base > most:
        yield (
            f"purchase.onDemandBase {base} is above capacity.max {most}: "
            f"lower onDemandBase to {most} or raise max to {base}"
        )
