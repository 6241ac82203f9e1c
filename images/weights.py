"""Ways to bring weights to a node: for each, the time from launch until they are read, and what it costs.

Sources of the rates are named with each figure. Prices are AWS's public ones for us-east-1 of mid 2025:
snapshots $0.05 and S3 $0.023 a GB-month, GETs $0.0004 a thousand, gp3 $0.08 a GB-month and $0.04 a
MiB/s-month above 125, volume initialization $0.0036 a GiB of the snapshot's data at 300 MiB/s, in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from images.engines import ENGINES
from images.instance_types import PRICES_AS_OF, InstanceType
from images.recipe import Recipe, Weights
from images.steps.command import Strategy

MIB, GIB, GB = 1024**2, 1024**3, 10**9
STRATEGIES: tuple[Strategy, ...] = ("baked-root", "baked-volume", "s3-nvme", "s3-stream")

BOOT_S = 40.0
FIRST_TOUCH_MIB_S = 5.0
PARALLEL_MB_S = 135.0
RANGE_BYTES = 16 * MIB
_BURST_S = 1800.0
_NEAR = 1.2
_USD_PER_GIB_AND_MIB_S = 0.0036 / 300
_VOLUME_MARGIN = 1.05
_MOST_VOLUME_GIB = 16_384

_PRICES = f"AWS price list, us-east-1, {PRICES_AS_OF}"
_BOOT = "one public report of a GPU AMI: 40 s from launch to boot"
_TOUCH = "AWS EBS guide, initialize volumes: about 5 MiB/s for one reader, 130-140 MB/s for many on gp3"
_RATE = "AWS EBS guide, provisioned rate for volume initialization: 100-300 MiB/s, as set"
_NETWORK = "AWS EC2 instance types: base bandwidth; more in bursts"


@dataclass(frozen=True)
class Figure:
    value: float
    unit: str
    formula: str
    source: str


@dataclass(frozen=True)
class Option:
    """One strategy for one model on one instance type. `refused` says why it cannot be taken."""

    strategy: Strategy
    seconds: Figure
    bytes: int
    usd_per_launch: Figure
    usd_per_month: Figure
    limits: tuple[str, ...]
    refused: str | None


def volume_gib(weights: Weights) -> int:
    """Size of a volume of their own: ext4 takes about 2% for itself, and a journal."""
    return math.ceil(weights.bytes * _VOLUME_MARGIN / GIB) + 1


def options(recipe: Recipe, weights: Weights, on: InstanceType) -> tuple[Option, ...]:
    """All four, those that cannot be taken included."""
    return tuple(_option(strategy, recipe, weights, on) for strategy in STRATEGIES)


def pick(found: tuple[Option, ...], wanted: str) -> tuple[Option, str] | None:
    """The option to take, and why; None when none can be. `wanted` is a strategy or auto."""
    possible = [option for option in found if option.refused is None]
    if wanted != "auto":
        named = [option for option in possible if option.strategy == wanted]
        return (named[0], "the recipe names it") if named else None
    if not possible:
        return None
    fastest = min(possible, key=lambda option: option.seconds.value)
    limit = fastest.seconds.value * _NEAR
    near = [option for option in possible if option.seconds.value <= limit]
    chosen = min(near, key=lambda option: (option.usd_per_month.value, option.seconds.value))
    if chosen is fastest:
        return chosen, f"the fastest that can be had: {chosen.seconds.value:.0f} s"
    return chosen, (
        f"{chosen.seconds.value:.0f} s is within a fifth of the fastest ({fastest.strategy}, "
        f"{fastest.seconds.value:.0f} s), at ${chosen.usd_per_month.value:.2f} instead of "
        f"${fastest.usd_per_month.value:.2f} a month"
    )


def _option(strategy: Strategy, recipe: Recipe, weights: Weights, on: InstanceType) -> Option:
    seconds = _seconds(strategy, recipe, weights.bytes, on)
    return Option(
        strategy=strategy,
        seconds=seconds,
        bytes=weights.bytes,
        usd_per_launch=_per_launch(strategy, recipe, weights.bytes, on, seconds.value),
        usd_per_month=_per_month(strategy, recipe, weights.bytes),
        limits=tuple(_limits(strategy, weights.bytes, on)),
        refused=_refusal(strategy, recipe, weights, on),
    )


def _seconds(strategy: Strategy, recipe: Recipe, size: int, on: InstanceType) -> Figure:
    if strategy.startswith("s3"):
        gbps = on.network_gbps[0]
        formula = f"{BOOT_S:.0f} s boot + {size / GB:.1f} GB x 8 / {gbps:g} Gbit/s"
        return Figure(BOOT_S + size * 8 / (gbps * GB), "s", formula, f"{_BOOT}; {_NETWORK}")
    rate, name, source = _disk_rate(strategy, recipe, on)
    formula = f"{BOOT_S:.0f} s boot + {size / GB:.1f} GB / {rate / 1e6:.0f} MB/s ({name})"
    return Figure(BOOT_S + size / rate, "s", formula, f"{_BOOT}; {source}")


def _disk_rate(strategy: Strategy, recipe: Recipe, on: InstanceType) -> tuple[float, str, str]:
    """Bytes a second, what holds it back, and the source: the slowest of snapshot, volume and instance."""
    rates = [
        (recipe.disk.throughput_mib_s * MIB, "the volume's throughput", "AWS EBS guide, gp3"),
        (on.ebs_mb_s[1] * 1e6, "the instance's EBS burst", "AWS EBS-optimized instance types"),
        _snapshot_rate(strategy, recipe),
    ]
    return min(rates, key=lambda rate: rate[0])


def _snapshot_rate(strategy: Strategy, recipe: Recipe) -> tuple[float, str, str]:
    initialized = recipe.disk.initialization_mib_s
    if initialized is not None and strategy == "baked-volume":
        return initialized * MIB, "VolumeInitializationRate", _RATE
    return PARALLEL_MB_S * 1e6, "first touch by many readers", _TOUCH


def _per_launch(strategy: Strategy, recipe: Recipe, size: int, on: InstanceType, seconds: float) -> Figure:
    hourly = on.usd_per_hour or 0.0
    waiting = hourly * seconds / 3600
    waiting_formula = f"{seconds:.0f} s x ${hourly:g}/h on demand"
    if strategy.startswith("s3"):
        gets = -(-size // RANGE_BYTES)
        formula = f"{waiting_formula} + {gets} GETs x $0.0004 / 1000"
        return Figure(waiting + gets * 0.0004 / 1000, "USD", formula, _PRICES)
    rate = recipe.disk.initialization_mib_s
    if rate is not None:
        per_gib, gib = rate * _USD_PER_GIB_AND_MIB_S, _snapshot_gib(strategy, recipe, size)
        formula = f"{waiting_formula} + {gib:.1f} GiB x ${per_gib:.4f} for initialization"
        return Figure(waiting + gib * per_gib, "USD", formula, _PRICES)
    return Figure(waiting, "USD", waiting_formula, _PRICES)


def _snapshot_gib(strategy: Strategy, recipe: Recipe, size: int) -> float:
    """Data of the snapshot that the weights are in: on the root all the rest is initialized with them."""
    if strategy == "baked-volume":
        return size / GIB
    rest = recipe.disk.base_gib + sum(container.unpacked_gib for container in recipe.containers)
    return rest + size / GIB


def _per_month(strategy: Strategy, recipe: Recipe, size: int) -> Figure:
    """Stored once, and for one node that runs all month."""
    if strategy.startswith("s3"):
        return Figure(size / GB * 0.023, "USD", f"{size / GB:.1f} GB in S3 x $0.023", _PRICES)
    throughput = max(0, recipe.disk.throughput_mib_s - 125) * 0.04
    value = size / GB * (0.05 + 0.08) + throughput
    formula = (
        f"{size / GB:.1f} GB x ($0.05 snapshot + $0.08 volume of one node)"
        f" + {recipe.disk.throughput_mib_s - 125} MiB/s x $0.04"
    )
    return Figure(value, "USD", formula, _PRICES)


def _limits(strategy: Strategy, size: int, on: InstanceType) -> Iterator[str]:
    if strategy == "baked-root":
        slow = size / (FIRST_TOUCH_MIB_S * MIB)
        yield f"without the parallel read-ahead unit one reader takes {_duration(slow)} at 5 MiB/s"
    if strategy == "baked-volume":
        yield "a second volume on every node; the launch template sets its rate"
    if not strategy.startswith("s3") and size / (on.ebs_mb_s[1] * 1e6) > _BURST_S:
        yield f"longer than the EBS burst of 30 min: then {on.ebs_mb_s[0]:g} MB/s"
    if strategy == "s3-nvme":
        yield "NVMe is lost when an instance stops: no stopped warm pool"
    if strategy == "s3-stream":
        yield "fetched again whenever the engine starts again; safetensors only"
    if strategy.startswith("s3") and on.network_gbps[1] > on.network_gbps[0]:
        best = BOOT_S + size * 8 / (on.network_gbps[1] * GB)
        yield f"{best:.0f} s while the network bursts to {on.network_gbps[1]:g} Gbit/s"


def _refusal(strategy: Strategy, recipe: Recipe, weights: Weights, on: InstanceType) -> str | None:
    if strategy == "baked-volume" and recipe.base.ec2 is None:
        return "only EC2 builders make a second volume"
    if strategy == "baked-volume" and volume_gib(weights) > _MOST_VOLUME_GIB:
        return f"one volume holds {_MOST_VOLUME_GIB} GiB, and {volume_gib(weights)} are needed"
    if not strategy.startswith("s3"):
        return None
    if recipe.engine is not None and recipe.engine.kind == "embedded":
        return "the embedded engine reads weights from the image"
    if not all((file.url or "").startswith("s3://") for file in weights.files):
        return "the files are not at s3:// URLs: publish them to a bucket and give their URLs"
    if strategy == "s3-nvme":
        return _nvme_refusal(weights, on)
    return _stream_refusal(recipe, weights)


def _nvme_refusal(weights: Weights, on: InstanceType) -> str | None:
    if not on.nvme_gb:
        return f"{on.name} has no NVMe"
    if weights.bytes * 1.05 > on.nvme_gb * GB:
        return f"{weights.bytes / GB:.0f} GB do not fit the {on.nvme_gb} GB of {on.name}'s NVMe"
    return None


def _stream_refusal(recipe: Recipe, weights: Weights) -> str | None:
    if recipe.engine is not None and "load_format" not in ENGINES[recipe.engine.kind].options:
        return f"{recipe.engine.kind} cannot read weights from S3: only vLLM can"
    if not any(file.name.endswith(".safetensors") for file in weights.files):
        return "only safetensors can be streamed"
    return None


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
