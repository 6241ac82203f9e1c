"""`images plan`: what a bake will do, how long each step takes, and which way the weights will come.

Pure: it reads nothing but the recipe. Raises PlanRefused for what cannot work, before anything costs money.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from images.engines import EngineOptions
from images.errors import PlanRefused
from images.instance_types import TYPES, InstanceType
from images.recipe import Recipe, Weights, digest
from images.sizing import DEFAULT_SHARE, GIB, Fit, fit, kv_bytes_per_token
from images.steps.command import Facts, Materials, Strategy
from images.steps.order import steps
from images.weights import BOOT_S, Option, options, pick, volume_gib

Where = Literal["ec2", "local"]
FREE_GIB = 1.0
# Bookkeeping of ext4 and its 5% reserve for root.
_FILESYSTEM_SHARE = 0.06
_ASSUMED_CONTEXT = 4096


@dataclass(frozen=True)
class PlannedStep:
    """`seconds` is an estimate, `source` says of what kind."""

    name: str
    seconds: float
    source: str


@dataclass(frozen=True)
class DiskBudget:
    """GiB of the root volume, and of the weights' own if they have one."""

    root: float
    base: float
    containers: float
    weights: float
    free: float
    weights_volume: int = 0


@dataclass(frozen=True)
class GpuFit:
    instance_type: str
    fit: Fit


@dataclass(frozen=True)
class Plan:
    recipe: str
    digest: str
    on: Where
    instance_type: str
    steps: tuple[PlannedStep, ...]
    disk: DiskBudget
    strategies: tuple[Option, ...]
    strategy: Strategy | None
    why: str
    fits: tuple[GpuFit, ...]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "seconds": self.seconds}, indent=2)

    def to_text(self) -> str:
        return "\n".join(_text(self)) + "\n"


def plan(recipe: Recipe, *, on: Where = "ec2", instance_type: str | None = None) -> Plan:
    """`instance_type` is what nodes will run on; by default the recipe's first choice. Raises PlanRefused."""
    node = _node_type(recipe, instance_type)
    _refuse_base(recipe, on)
    _refuse_unpinned(recipe)
    found = options(recipe, recipe.weights, node) if recipe.weights else ()
    strategy, why = _choice(recipe, found, node, on)
    fits = tuple(_fits(recipe))
    return Plan(
        recipe=recipe.name,
        digest=digest(recipe),
        on=on,
        instance_type=node.name,
        steps=tuple(_timed(recipe, strategy, on)),
        disk=disk_budget(recipe, strategy),
        strategies=found,
        strategy=strategy,
        why=why,
        fits=fits,
        warnings=tuple(_warnings(recipe, fits)),
    )


def disk_budget(recipe: Recipe, strategy: Strategy | None) -> DiskBudget:
    """Raises PlanRefused when less than 1 GiB would stay free."""
    disk = recipe.disk
    containers = sum(container.unpacked_gib for container in recipe.containers)
    weights = recipe.weights.bytes / GIB if recipe.weights and strategy == "baked-root" else 0.0
    usable = disk.root_gib * (1 - _FILESYSTEM_SHARE)
    free = usable - disk.base_gib - containers - weights
    if free < FREE_GIB:
        needed = (disk.base_gib + containers + weights + FREE_GIB) / (1 - _FILESYSTEM_SHARE)
        raise PlanRefused(
            f"disk.root_gib {disk.root_gib} leaves {free:.1f} GiB free, and {FREE_GIB:.0f} GiB must be",
            f"base {disk.base_gib:g} + containers {containers:.1f} + weights {weights:.1f} GiB:"
            f" set disk.root_gib to {int(needed) + 1}",
        )
    own = volume_gib(recipe.weights) if recipe.weights and strategy == "baked-volume" else 0
    return DiskBudget(disk.root_gib, disk.base_gib, containers, weights, free, own)


def _node_type(recipe: Recipe, name: str | None) -> InstanceType:
    wanted = name or recipe.launch_instance_types[0]
    if wanted not in recipe.launch_instance_types:
        raise PlanRefused(
            f"{wanted} is not among launch_instance_types of {recipe.name}",
            f"choose one of {', '.join(recipe.launch_instance_types)}, or add it to the recipe",
        )
    if wanted not in TYPES:
        raise PlanRefused(
            f"{wanted} is not among the instance types that plans know",
            f"choose one of {', '.join(sorted(TYPES))}",
        )
    return TYPES[wanted]


def _refuse_base(recipe: Recipe, on: Where) -> None:
    if (recipe.base.ec2 if on == "ec2" else recipe.base.local) is None:
        other = "local" if on == "ec2" else "ec2"
        raise PlanRefused(
            f"{recipe.name} has no base for {on}", f"bake it with --on {other}, or add [base.{on}]"
        )
    if on == "local" and recipe.gpu:
        raise PlanRefused(f"{recipe.name} needs a GPU to be checked, and local machines have none")


def _refuse_unpinned(recipe: Recipe) -> None:
    if recipe.weights is not None and recipe.weights.unpinned:
        names = ", ".join(recipe.weights.unpinned)
        raise PlanRefused(
            f"weights.files: no sha256 for {names}",
            f"add sha256 to each file; the hub shows it on the file's page at {recipe.weights.revision}",
        )


def _choice(
    recipe: Recipe, found: tuple[Option, ...], node: InstanceType, on: Where
) -> tuple[Strategy | None, str]:
    if recipe.weights is None:
        return None, "this role has no weights"
    if on == "local" and recipe.weights.strategy == "baked-volume":
        raise PlanRefused("weights.strategy baked-volume: local machines have one disk", "use baked-root")
    chosen = pick(_only(found, "baked-root") if on == "local" else found, recipe.weights.strategy)
    if chosen is None:
        raise PlanRefused(
            f"weights.strategy {recipe.weights.strategy} cannot be taken on {node.name}: "
            + "; ".join(f"{option.strategy}: {option.refused}" for option in found if option.refused),
            "choose another strategy or instance type",
        )
    return chosen[0].strategy, chosen[1]


def _only(found: tuple[Option, ...], strategy: Strategy) -> tuple[Option, ...]:
    return tuple(option for option in found if option.strategy == strategy)


def _fits(recipe: Recipe) -> Iterator[GpuFit]:
    """Raises PlanRefused for a type whose GPUs cannot hold the model with one sequence."""
    weights, engine = recipe.weights, recipe.engine
    if not recipe.gpu or weights is None or engine is None or weights.shape is None:
        return
    if weights.shape.attention != "full":
        return
    for name in recipe.launch_instance_types:
        found = _fit_on(name, weights, engine.options)
        if found is not None:
            yield GpuFit(name, found)


def _fit_on(name: str, weights: Weights, chosen: EngineOptions) -> Fit | None:
    gpus = TYPES[name].gpus if name in TYPES else None
    shape = weights.shape
    if gpus is None or shape is None:
        return None
    context = chosen.context_tokens or _ASSUMED_CONTEXT
    shards = chosen.shards or 1
    if shards > gpus.count:
        raise PlanRefused(f"engine.options.shards {shards}: {name} has {gpus.count} GPUs")
    found = fit(
        weights_bytes=weights.bytes,
        bytes_per_token=kv_bytes_per_token(
            shape.layers, shape.kv_heads, shape.head_dim, chosen.kv_cache_dtype
        ),
        context_tokens=context,
        gpus=gpus,
        shards=shards,
        share=chosen.memory_share or DEFAULT_SHARE,
    )
    if found.sequences == 0:
        raise PlanRefused(
            f"{weights.bytes / GIB:.1f} GiB of weights and a sequence of {context} tokens do not fit"
            f" {shards} of {name}'s {gpus.name} ({gpus.mib / 1024:.1f} GiB each)",
            "take a larger type, more shards, a quantized model or a shorter context",
        )
    return found


def _warnings(recipe: Recipe, fits: tuple[GpuFit, ...]) -> Iterator[str]:
    wanted = recipe.engine.options.max_sequences if recipe.engine else None
    for found in fits:
        if wanted is not None and found.fit.sequences < wanted:
            yield (
                f"{found.instance_type}: {found.fit.sequences} sequences of {found.fit.context_tokens} tokens"
                f" fit at once, and max_sequences is {wanted}: long ones will wait"
            )
    if recipe.gpu and recipe.weights is not None and recipe.weights.shape is None:
        yield "weights.shape is missing: nobody has checked that the model fits the GPU"
    if recipe.weights is not None and recipe.weights.shape and recipe.weights.shape.attention != "full":
        yield f"no formula for {recipe.weights.shape.attention} attention: check by hand that the model fits"
    for name in recipe.launch_instance_types:
        if name not in TYPES:
            yield f"{name} is not among the types that plans know: only its name was checked"
    unused = [name for name in recipe.compile_cache if not _warms(recipe)]
    if unused:
        yield "no builder type has a GPU of the nodes': compile caches will be filled on the first node only"


def _warms(recipe: Recipe) -> bool:
    return any(TYPES[name].gpus for name in recipe.builder.instance_types if name in TYPES)


def _timed(recipe: Recipe, strategy: Strategy | None, on: Where) -> Iterator[PlannedStep]:
    """Steps as they will run on a machine such as the plan assumes."""
    facts = Facts("debian", "12", "bookworm", recipe.architecture, "admin", gpu=recipe.gpu)
    # Digests and URLs do not change which steps there are.
    archives = {str(container.archive): "0" * 64 for container in recipe.containers}
    urls = {file.name: b"https://signed" for file in recipe.weights.files} if recipe.weights else {}
    materials = Materials(
        run_id="plan",
        strategy=strategy,
        archive_sha256=archives,
        weights_device="/dev/nvme1n1",
        weight_urls=urls,
    )
    yield PlannedStep("start a machine", _START[on][0], _START[on][1])
    for step in steps(recipe, facts, materials):
        seconds, source = _estimate(step.name, recipe, strategy, on)
        yield PlannedStep(step.name, seconds, source)
    size = recipe.disk.base_gib + sum(container.unpacked_gib for container in recipe.containers)
    baked = recipe.weights.bytes / GIB if recipe.weights and strategy in ("baked-root", "baked-volume") else 0
    imaging, source = _IMAGE[on]
    yield PlannedStep("make the image", 30 + imaging * (size + baked), source)
    yield PlannedStep("boot it fresh", BOOT_S, _GUESS)
    yield PlannedStep("golden checks", 10.0 * len(recipe.checks), "estimate: 10 s a check")


_MEASURED = "measured on User-mode Linux, 2 cores"
_GUESS = "estimate"
_START = {"ec2": (60.0, _GUESS), "local": (20.0, _MEASURED)}
_IMAGE = {"ec2": (20.0, "estimate: 20 s a GiB"), "local": (8.0, _MEASURED)}
_DOCKER = {"ec2": (45.0, _GUESS), "local": (73.0, _MEASURED)}
# 22 s for a container of 162 MB.
_LOAD = {"ec2": (25.0, "estimate: 25 s a GiB"), "local": (140.0, _MEASURED)}
_FIXED = {
    "wait for the machine": 20.0,
    "warm compile caches": 180.0,
    "install the GPU toolkit": 20.0,
    "clean": 20.0,
}


def _estimate(name: str, recipe: Recipe, strategy: Strategy | None, on: Where) -> tuple[float, str]:
    if name == "install Docker":
        return _DOCKER[on]
    if name == "bring the containers":
        per_gib, source = _LOAD[on]
        return per_gib * sum(container.unpacked_gib for container in recipe.containers), source
    if (
        name == "bring the weights"
        and recipe.weights is not None
        and strategy in ("baked-root", "baked-volume")
    ):
        return 5 + recipe.weights.bytes / 60e6, "estimate: 60 MB/s to fetch and check"
    return _FIXED.get(name, 5.0), _GUESS


def _text(plan: Plan) -> Iterator[str]:
    yield f"{plan.recipe} ({plan.digest[:12]}) on {plan.on}, for nodes of {plan.instance_type}"
    yield ""
    for step in plan.steps:
        yield f"  {step.seconds:6.0f} s  {step.name} ({step.source})"
    yield f"  {plan.seconds:6.0f} s  in all"
    yield ""
    disk = plan.disk
    yield (
        f"disk {disk.root:g} GiB: base {disk.base:g}, containers {disk.containers:.1f}, "
        f"weights {disk.weights:.1f}, free {disk.free:.1f}"
    )
    if disk.weights_volume:
        yield f"weights volume {disk.weights_volume} GiB"
    for found in plan.fits:
        yield (
            f"{found.instance_type}: {found.fit.sequences} sequences of {found.fit.context_tokens} tokens "
            f"fit beside the weights ({found.fit.kv_bytes_per_token / 1024:.0f} KiB a token)"
        )
    for option in plan.strategies:
        yield from _option_text(option, chosen=option.strategy == plan.strategy)
    if plan.strategy is not None:
        yield f"weights come by {plan.strategy}: {plan.why}"
    for warning in plan.warnings:
        yield f"warning: {warning}"


def _option_text(option: Option, *, chosen: bool) -> Iterator[str]:
    mark = "*" if chosen else "-" if option.refused else " "
    yield (
        f"{mark} {option.strategy:13} {option.seconds.value:7.0f} s"
        f"  ${option.usd_per_launch.value:.4f} a launch  ${option.usd_per_month.value:.2f} a month"
    )
    for figure in (option.seconds, option.usd_per_launch, option.usd_per_month):
        yield f"      {figure.formula}  [{figure.source}]"
    for limit in option.limits:
        yield f"      {limit}"
    if option.refused:
        yield f"      cannot be taken: {option.refused}"
