"""Settings of a tier: one Auto Scaling group, of gateways or of nodes that generate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from fleet.stack.naming import tier_name_problem
from fleet.stack.settings_base import Count, Group, Slug, wanted, when
from fleet.stack.settings_fallback import Fallback
from fleet.stack.settings_fallback import problems as fallback_problems
from fleet.stack.settings_purchase import Purchase
from fleet.stack.settings_rollout import Rollout, room_problem
from fleet.stack.settings_scaling import GatewayScaling, ModelScaling, Scaling
from fleet.stack.settings_scaling import problems as scaling_problems

GPU_ENGINES = ("vllm", "tgi", "sglang")

# A spot notice gives so much, and a node's drain is planned for it.
NOTICE_SECONDS = 120
WARMUP_SECONDS = 120
"""Of a node whose image nobody has measured."""

S3Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9!_.()/-]*$", max_length=512),
    wanted("s3://BUCKET/PREFIX"),
]
ModelName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$"),
    wanted("a name such as llama-8b"),
]


class Capacity(Group):
    min: Count = Field(
        description="Fewest nodes, or units where there are weights.",
        json_schema_extra=when("Always. What must serve at the quietest hour; 2 or more in production."),
    )
    desired: Count = Field(
        description="Nodes to begin with; scaling changes it from then on.",
        json_schema_extra=when("Always. It counts at the first `up` only."),
    )
    max: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="Most nodes.",
        json_schema_extra=when(
            "Always. It bounds the bill, and a zone's subnet must have room for all tiers'."
        ),
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if problems := list(_capacity_problems(self)):
            raise ValueError("; ".join(problems))
        return self


class WarmPool(Group):
    """Booted nodes that wait. AWS allows it with several types, and documents it for on demand alone."""

    state: Literal["stopped", "running"] = Field(
        default="stopped",
        description="How nodes wait: stopped nodes cost their volumes only, running ones all.",
        json_schema_extra=when("running where starting an engine takes longer than a request may wait."),
    )
    min: Count = Field(
        default=0,
        description="Nodes that always wait.",
        json_schema_extra=when("As many as one step of scaling adds."),
    )
    max_prepared: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Most nodes that wait and serve together; by default the tier's capacity.max.",
        json_schema_extra=when("Where waiting nodes up to capacity.max would cost too much."),
    )
    reuse: bool = Field(
        default=False,
        description="Whether nodes return to the pool when a tier shrinks.",
        json_schema_extra=when("Where booting is slow and load comes and goes."),
    )


class Volumes(Group):
    root_gib: int = Field(
        default=30,
        ge=8,
        le=16384,
        description="Size of the root volume.",
        json_schema_extra=when("At least what the image has; `up` says so where it is less."),
    )
    root_mibps: int = Field(
        default=125,
        ge=125,
        le=1000,
        description="Least throughput of the root volume; an image whose weights lie on it may ask for more.",
        json_schema_extra=when("Raise it where weights are read from the root; above 125 it costs."),
    )
    initialization_mibps: Annotated[int, Field(ge=100, le=300)] | None = Field(
        default=None,
        description="Rate at which EBS fetches a snapshot's blocks to a new volume, instead of the rate that "
        "the image asks for.",
        json_schema_extra=when("Where nodes boot so often that paying for the image's rate is too much."),
    )


class Drain(Group):
    # A spot notice gives 120 s, and the group deregisters before it calls the hook.
    deregistration_delay_seconds: int = Field(
        default=90,
        ge=0,
        le=90,
        description="How long requests in flight may go on after deregistration.",
        json_schema_extra=when("Lower it where no answer takes so long."),
    )
    hook_seconds: int = Field(
        default=NOTICE_SECONDS,
        ge=30,
        le=NOTICE_SECONDS,
        description="How long a node that scaling takes out may drain.",
        json_schema_extra=when("Lower it with deregistrationDelaySeconds, which is not longer."),
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        delay, hook = self.deregistration_delay_seconds, self.hook_seconds
        if delay > hook:
            raise ValueError(
                f"deregistrationDelaySeconds {delay} is above hookSeconds {hook}: nodes would go while "
                f"requests run; lower the delay to {hook} or raise hookSeconds to {delay}"
            )
        return self


class Boot(Group):
    grace_seconds: int = Field(
        default=300,
        ge=30,
        le=7200,
        description="How long a new node may be unhealthy before it is replaced.",
        json_schema_extra=when("Raise it above the time that the engine takes to load its weights."),
    )
    warmup_seconds: Annotated[int, Field(ge=0, le=3600)] | None = Field(
        default=None,
        description="How long a new node does not count in scaling metrics; by default as long as the "
        f"image's bake measured from launch to ready, or {WARMUP_SECONDS} for an image of which that is not "
        "known.",
        json_schema_extra=when("Where the tier's types are much slower or faster than the bake's."),
    )


class BaseTier(Group):
    name: Slug = Field(
        description="Name of the tier, in the names of what it is made of.",
        json_schema_extra=when(
            "Always. Another name is another tier: everything that it is made of is replaced."
        ),
    )
    recipe: Slug = Field(
        description="Recipe of the image that nodes boot.", json_schema_extra=when("Always.")
    )
    channel: Literal["dev", "stage", "prod"] = Field(
        description="Channel whose image `up` pins.",
        json_schema_extra=when("Always. The stack's own, as a rule."),
    )
    capacity: Capacity = Field(description="How many nodes.", json_schema_extra=when("Always."))
    purchase: Purchase = Field(
        description="Which instances, and which of them on demand.", json_schema_extra=when("Always.")
    )
    fallback: Fallback = Field(
        default=Fallback(),
        description="What it does when spot has nothing to give.",
        json_schema_extra=when("Where on-demand nodes in spot's place are not wanted, or not so many."),
    )
    scaling: Scaling = Field(
        default=Scaling(),
        description="What makes it grow and shrink.",
        json_schema_extra=when("Where the defaults do not fit the load."),
    )
    warm_pool: WarmPool | None = Field(
        default=None,
        description="Booted nodes that wait for load; none by default.",
        json_schema_extra=when("On tiers without spot whose nodes take minutes to boot."),
    )
    volumes: Volumes = Field(
        default=Volumes(),
        description="The nodes' disks.",
        json_schema_extra=when("Where the image is large, or its weights lie on the root."),
    )
    boot: Boot = Field(
        default=Boot(),
        description="How long a new node takes.",
        json_schema_extra=when("Where weights are large."),
    )
    drain: Drain = Field(
        default=Drain(),
        description="How a node leaves.",
        json_schema_extra=when("Seldom: the defaults are made for the 120 s of a spot notice."),
    )
    rollout: Rollout = Field(
        default=Rollout(),
        description="How a new image reaches the nodes that run.",
        json_schema_extra=when("In production: how careful it is, and how long it takes."),
    )

    @property
    def falls_back(self) -> bool:
        """Whether the control handler buys on demand what spot does not give."""
        return self.fallback.enabled and not self.purchase.only_on_demand

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sizes = self.capacity.min, self.capacity.max
        scaling = [
            *scaling_problems(self.scaling, *sizes),
            *fallback_problems(self.fallback, self.purchase.on_demand_base, self.capacity.max),
        ]
        if problems := [*_tier_problems(self), *_warm_pool_problems(self), *scaling]:
            raise ValueError("; ".join(problems))
        return self


class GatewayTier(BaseTier):
    role: Literal["gateway"] = Field(
        description="gateway: CPU nodes that clients talk to.",
        json_schema_extra=when("On exactly one tier."),
    )
    scaling: GatewayScaling = Field(
        default=GatewayScaling(),
        description="What makes it grow and shrink.",
        json_schema_extra=when("Where the defaults do not fit the load."),
    )


class ModelTier(BaseTier):
    role: Literal["model"] = Field(
        description="model: nodes that generate.",
        json_schema_extra=when("On one tier or more; clients choose among them by the model's name."),
    )
    engine: Literal["embedded", "llama-server", "sglang", "tgi", "vllm"] = Field(
        description="Model server that the image starts.", json_schema_extra=when("Always.")
    )
    scaling: ModelScaling = Field(
        default=ModelScaling(),
        description="What makes it grow and shrink.",
        json_schema_extra=when("Where the defaults do not fit the load."),
    )
    model: ModelName | None = Field(
        default=None,
        description="Name by which clients ask for the embedded engine's model; by default its own.",
        json_schema_extra=when(
            "Where several tiers run the embedded engine. Others serve under the name that their image has."
        ),
    )
    weights_from: tuple[S3Prefix, ...] = Field(
        default=(),
        max_length=10,
        description="Where in S3 nodes may read their weights, as s3://bucket/prefix.",
        json_schema_extra=when(
            "Where the recipe's weights.strategy is s3-nvme or s3-stream: nodes may read nothing in S3 "
            "otherwise."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _gpus_are_not_scaled_by_cpu(cls, given: Any) -> Any:
        """CPU says little of a node whose engine computes on GPUs: unless it is asked for, nobody looks."""
        if not isinstance(given, dict) or given.get("engine") not in GPU_ENGINES:
            return given
        scaling = given.get("scaling", {})
        return (
            given | {"scaling": {"cpuTargetPercent": None, **scaling}} if isinstance(scaling, dict) else given
        )

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        if problems := list(_engine_problems(self)):
            raise ValueError("; ".join(problems))
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


def _tier_problems(tier: BaseTier) -> Iterator[str]:
    if problem := tier_name_problem(tier.name):
        yield problem
    base, most = tier.purchase.on_demand_base, tier.capacity.max
    if base > most:
        yield (
            f"purchase.onDemandBase {base} is above capacity.max {most}: "
            f"lower onDemandBase to {most} or raise max to {base}"
        )
    heaviest = max((tier.purchase.weights or {}).values(), default=1)
    if heaviest > most:
        yield (
            f"purchase.weights has {heaviest}, above capacity.max {most}, so one node would exceed the tier: "
            f"raise max to {heaviest} or lower the weight to {most}"
        )
    if problem := room_problem(tier.rollout, tier.capacity.min):
        yield problem


def _warm_pool_problems(tier: BaseTier) -> Iterator[str]:
    pool = tier.warm_pool
    if pool is None:
        return
    if not tier.purchase.only_on_demand:
        yield (
            f"warmPool is set, and purchase.onDemandPercent is {tier.purchase.on_demand_percent}: AWS "
            "documents warm pools for on-demand nodes only; raise onDemandPercent to 100 or remove warmPool"
        )
    if pool.max_prepared is not None and pool.max_prepared < tier.capacity.min + pool.min:
        least = tier.capacity.min + pool.min
        yield (
            f"warmPool.maxPrepared {pool.max_prepared} is below capacity.min {tier.capacity.min} and "
            f"warmPool.min {pool.min} together: raise maxPrepared to {least}"
        )


def _engine_problems(tier: ModelTier) -> Iterator[str]:
    if tier.engine in GPU_ENGINES and (without := tier.purchase.may_lack_gpu):
        where = "requirements" if tier.purchase.requirements else "instanceTypes"
        yield (
            f"engine {tier.engine} needs GPUs, and purchase.{where} has {', '.join(without)} without: "
            + ("raise gpus.min to 1" if tier.purchase.requirements else "remove them")
            + ", or set engine to llama-server or embedded"
        )
    if tier.model is not None and tier.engine != "embedded":
        yield (
            f"model is set, and engine {tier.engine} serves under the name that its image has: remove model"
        )
