from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from images.instance_types import TYPES
from images.recipe import Recipe
from images.steps.command import Strategy
from images.weights import BOOT_S, Option, options, pick, volume_gib

SHA = "a" * 64


def weights_of(gigabytes: int, url: str = "s3://models/m") -> list[dict[str, Any]]:
    return [
        {"name": "m.safetensors", "url": f"{url}/m.safetensors", "sha256": SHA, "bytes": gigabytes * 10**9}
    ]


def table(recipe: Recipe, on: str) -> dict[Strategy, Option]:
    assert recipe.weights is not None
    return {option.strategy: option for option in options(recipe, recipe.weights, TYPES[on])}


@pytest.fixture
def make(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def made(gigabytes: int = 15, url: str = "s3://models/m", **changes: Any) -> Recipe:
        weights = {"strategy": "auto", "files": weights_of(gigabytes, url)}
        disk = {"root_gib": 500, "base_gib": 60, "throughput_mib_s": 1000, "initialization_mib_s": 300}
        return make_recipe("model-gpu-vllm", weights=weights, **{"disk": disk, **changes})

    return made


@pytest.mark.parametrize(
    ("gigabytes", "on", "strategy", "seconds"),
    [
        # Seconds to read the weights once, without the boot: the published rates' arithmetic.
        (15, "g5.12xlarge", "baked-root", 111),
        (70, "g5.12xlarge", "baked-root", 519),
        (140, "g5.12xlarge", "baked-root", 1037),
        (15, "g5.12xlarge", "baked-volume", 48),
        (70, "g5.12xlarge", "baked-volume", 223),
        (140, "g5.12xlarge", "baked-volume", 445),
        (15, "g5.12xlarge", "s3-stream", 3),
        (70, "g5.12xlarge", "s3-nvme", 14),
        (140, "g6e.12xlarge", "s3-stream", 11),
        (140, "g5.12xlarge", "s3-stream", 28),
    ],
)
def test_seconds(
    make: Callable[..., Recipe], gigabytes: int, on: str, strategy: Strategy, seconds: float
) -> None:
    """Each strategy takes the time that the slowest part of its way gives it."""
    found = table(make(gigabytes), on)[strategy].seconds
    assert found.value - BOOT_S == pytest.approx(seconds, abs=0.6)
    assert found.formula
    assert found.source


@pytest.mark.parametrize(
    ("disk", "on", "formula"),
    [
        ({"throughput_mib_s": 125}, "g5.12xlarge", "the volume's throughput"),
        ({"throughput_mib_s": 1000, "initialization_mib_s": 300}, "g6e.12xlarge", "VolumeInitializationRate"),
        ({"throughput_mib_s": 1000}, "g6e.12xlarge", "first touch by many readers"),
    ],
)
def test_what_holds_it_back(make: Callable[..., Recipe], disk: dict[str, int], on: str, formula: str) -> None:
    """The formula names the slowest of snapshot, volume and instance."""
    recipe = make(disk={"root_gib": 500, "base_gib": 60, **disk})
    assert formula in table(recipe, on)["baked-volume"].seconds.formula


@pytest.mark.parametrize(
    ("changes", "on", "strategy", "said"),
    [
        ({"url": "https://example.org"}, "g5.12xlarge", "s3-nvme", "not at s3:// URLs"),
        ({}, "c7i.large", "s3-nvme", "c7i.large has no NVMe"),
        ({"gigabytes": 140}, "g4dn.xlarge", "s3-nvme", "140 GB do not fit the 125 GB of g4dn.xlarge's NVMe"),
        (
            {"engine__kind": "tgi", "engine__options": {}},
            "g5.12xlarge",
            "s3-stream",
            "tgi cannot read weights",
        ),
        ({"base": {"local": {"suite": "bookworm"}}}, "g5.12xlarge", "baked-volume", "only EC2 builders"),
    ],
)
def test_refusals(
    make: Callable[..., Recipe], changes: dict[str, Any], on: str, strategy: Strategy, said: str
) -> None:
    """What cannot be taken stays in the table, with the reason."""
    assert said in (table(make(**changes), on)[strategy].refused or "")


def test_costs(make: Callable[..., Recipe]) -> None:
    """Costs are the waiting instance, GETs or initialization, and a month of storage."""
    found = table(make(), "g5.xlarge")
    stream, volume = found["s3-stream"], found["baked-volume"]
    waiting = stream.seconds.value * 1.006 / 3600
    assert stream.usd_per_launch.value == pytest.approx(waiting + 895 * 0.0004 / 1000)
    assert stream.usd_per_month.value == pytest.approx(15 * 0.023)
    initialization = 15e9 / 1024**3 * 0.0036
    assert volume.usd_per_launch.value == pytest.approx(volume.seconds.value * 1.006 / 3600 + initialization)
    assert volume.usd_per_month.value == pytest.approx(15 * 0.13 + 875 * 0.04)


def test_initialization_costs_by_rate_and_data(make: Callable[..., Recipe]) -> None:
    """A third of the rate is a third of the price; on the root, base and containers are initialized too."""
    disk = {"root_gib": 500, "base_gib": 60, "throughput_mib_s": 1000, "initialization_mib_s": 100}
    recipe = make(disk=disk)
    found = table(recipe, "g5.xlarge")
    weights = 15e9 / 1024**3
    rest = 60 + sum(container.unpacked_gib for container in recipe.containers)
    priced: dict[Strategy, float] = {"baked-volume": weights, "baked-root": rest + weights}
    for strategy, gib in priced.items():
        waiting = found[strategy].seconds.value * 1.006 / 3600
        assert found[strategy].usd_per_launch.value == pytest.approx(waiting + gib * 0.0012)


def test_a_volume_has_room_for_its_file_system(make: Callable[..., Recipe]) -> None:
    """Room for ext4 beside the weights; what no volume holds is refused with both sizes."""
    small = make().weights
    assert small is not None
    assert volume_gib(small) * 1024**3 > small.bytes * 1.05
    assert "one volume holds 16384 GiB" in (table(make(20_000), "g5.12xlarge")["baked-volume"].refused or "")


def test_pick_the_fastest(make: Callable[..., Recipe]) -> None:
    """With nothing near it, the fastest is taken."""
    recipe = make(140)
    chosen = pick(tuple(table(recipe, "g6e.12xlarge").values()), "auto")
    assert chosen is not None
    assert chosen[0].strategy in ("s3-nvme", "s3-stream")


def test_pick_the_cheaper_of_near_ones(make: Callable[..., Recipe]) -> None:
    """Within a fifth of the fastest the cheaper one is taken, and the reason names both."""
    found = table(
        make(
            15, disk={"root_gib": 500, "base_gib": 60, "throughput_mib_s": 1000, "initialization_mib_s": 300}
        ),
        "g5.xlarge",
    )
    chosen = pick(tuple(found.values()), "auto")
    assert chosen is not None
    assert chosen[0].strategy.startswith("s3")
    cheapest = min(option.usd_per_month.value for option in found.values())
    assert chosen[0].usd_per_month.value == cheapest


def test_pick_what_the_recipe_names(make: Callable[..., Recipe]) -> None:
    """A named strategy is taken when it can be, however slow; never another one in its place."""
    found = tuple(table(make(), "c7i.large").values())
    named = pick(found, "baked-root")
    assert named is not None
    assert named[0].strategy == "baked-root"
    assert pick(found, "s3-nvme") is None
