from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from images.errors import PlanRefused
from images.plan import plan
from images.recipe import Recipe

SHARD = {"name": "m.safetensors", "bytes": 15 * 10**9}
HUB = {"strategy": "auto", "hub": "a/b", "revision": "c" * 40}
BIG_DISK = {"root_gib": 500, "base_gib": 60}


@pytest.mark.parametrize(
    ("name", "changes", "options", "said", "hint"),
    [
        (
            "model-gpu-vllm",
            {"weights": {**HUB, "files": [SHARD]}},
            {},
            "no sha256 for m.safetensors",
            "add sha256",
        ),
        ("rehearsal", {"disk__root_gib": 2}, {}, "disk.root_gib 2 leaves", "set disk.root_gib to 3"),
        ("model-gpu-vllm", {"disk__root_gib": 85}, {}, "disk.root_gib 85 leaves", "containers 24.2"),
        ("model-gpu-vllm", {}, {"instance_type": "g5.12xlarge"}, "not among launch_instance_types", "g5.xl"),
        ("model-gpu-vllm", {}, {"on": "local"}, "no base for local", "--on ec2"),
        (
            "rehearsal",
            {"base": {"local": {"suite": "bookworm"}}},
            {"on": "ec2"},
            "no base for ec2",
            "--on local",
        ),
        (
            "model-gpu-vllm",
            {"launch_instance_types": ["g4dn.xlarge"], "engine__options__context_tokens": 32768},
            {},
            "14.2 GiB of weights and a sequence of 32768 tokens do not fit 1 of g4dn.xlarge's T4 (15.0 GiB",
            "larger type",
        ),
        (
            "model-gpu-vllm",
            {"engine__options__shards": 2, "launch_instance_types": ["g5.xlarge"]},
            {},
            "engine.options.shards 2: g5.xlarge has 1 GPUs",
            "",
        ),
        (
            "rehearsal",
            {"weights__strategy": "s3-nvme"},
            {},
            "weights.strategy s3-nvme cannot be taken on c7i.large: ",
            "choose another strategy",
        ),
        (
            "rehearsal",
            {"weights__strategy": "baked-volume"},
            {"on": "local"},
            "local machines have one",
            "baked-root",
        ),
    ],
)
def test_refusals(
    make_recipe: Callable[..., Recipe],
    name: str,
    changes: dict[str, Any],
    options: dict[str, Any],
    said: str,
    hint: str,
) -> None:
    """What cannot work is refused before anything costs money, and the hint says what to change."""
    with pytest.raises(PlanRefused) as caught:
        plan(make_recipe(name, **changes), **options)
    assert said in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "on", "strategy"),
    [
        ("gateway-cpu", "ec2", None),
        ("gateway-cpu", "local", None),
        ("model-gpu-vllm", "ec2", "baked-volume"),
        ("model-gpu-tgi", "ec2", "baked-volume"),
        ("model-cpu-llama", "local", "baked-root"),
        ("rehearsal", "local", "baked-root"),
        ("rehearsal", "ec2", "baked-root"),
    ],
)
def test_shipped(make_recipe: Callable[..., Recipe], name: str, on: Any, strategy: str | None) -> None:
    """Every shipped recipe can be planned where it has a base, and JSON and text tell the same choice."""
    made = plan(make_recipe(name), on=on)
    assert made.strategy == strategy
    told = json.loads(made.to_json())
    assert told["strategy"] == strategy
    assert told["seconds"] == pytest.approx(made.seconds)
    assert strategy is None or f"weights come by {strategy}" in made.to_text()
    assert made.disk.free >= 1


def test_order(make_recipe: Callable[..., Recipe]) -> None:
    """A plan lists the steps in the order in which they run, imaging and the fresh boot included."""
    names = [step.name for step in plan(make_recipe("model-gpu-vllm")).steps]
    assert names == [
        "start a machine",
        "wait for the machine",
        "install Docker",
        "install the GPU toolkit",
        "bring the containers",
        "bring the weights",
        "write units",
        "warm compile caches",
        "hold versions",
        "verify",
        "clean",
        "verify that it is clean",
        "cut access",
        "make the image",
        "boot it fresh",
        "golden checks",
    ]


def test_table_has_every_figure(make_recipe: Callable[..., Recipe]) -> None:
    """All four strategies are shown with formula and source of each figure, refused ones with the reason."""
    text = plan(make_recipe("model-gpu-vllm")).to_text()
    for strategy in ("baked-root", "baked-volume", "s3-nvme", "s3-stream"):
        assert strategy in text
    assert "cannot be taken: the files are not at s3:// URLs" in text
    assert "15.2 GB / 315 MB/s (VolumeInitializationRate)" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "11 sequences of 8192 tokens fit at once, and max_sequences is 64"),
        ({"weights__shape": None}, "nobody has checked that the model fits"),
        ({"weights__shape__attention": "mla"}, "no formula for mla attention"),
        ({"launch_instance_types": ["g6e.2xlarge", "g9.xlarge"]}, "g9.xlarge is not among the types"),
        ({"builder__instance_types": ["m7i.xlarge"]}, "compile caches will be filled on the first node"),
    ],
)
def test_warnings(make_recipe: Callable[..., Recipe], changes: dict[str, Any], said: str) -> None:
    """What may be meant, and may not, is said and not refused."""
    assert any(said in warning for warning in plan(make_recipe("model-gpu-vllm", **changes)).warnings)


def test_baked_weights_take_disk(make_recipe: Callable[..., Recipe]) -> None:
    """Only weights on the root volume count against it."""
    volume = plan(make_recipe("model-gpu-vllm", disk=BIG_DISK, weights__strategy="baked-volume"))
    root = plan(make_recipe("model-gpu-vllm", disk=BIG_DISK, weights__strategy="baked-root"))
    assert volume.disk.weights == 0
    assert volume.disk.free - root.disk.free == pytest.approx(14.2, abs=0.1)
