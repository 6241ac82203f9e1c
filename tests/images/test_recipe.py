from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.errors import RecipeError
from images.recipe import Recipe, digest, load

RECIPES = Path(__file__).parent.parent.parent / "images" / "recipes"
SHA = "a" * 64
FILE = {"name": "w.safetensors", "bytes": 10, "sha256": SHA, "url": "https://example.org/w"}
ARCHIVE = {"archive": "a.tar", "image": "a:1", "sha256": SHA, "unpacked_gib": 1}

REFUSED = [
    ("rehearsal", {"colour": "red"}, "colour: there is no such key; check its spelling"),
    ("rehearsal", {"disk__size": 3}, "disk.size: there is no such key; check its spelling"),
    ("rehearsal", {"role": "database"}, "role: Input should be 'gateway' or 'model'; it is 'database'"),
    ("rehearsal", {"role": "gateway"}, "engine and weights are not for role gateway"),
    ("gateway-cpu", {"role": "model"}, "engine and weights are needed for role model"),
    ("rehearsal", {"checks": []}, "checks: "),
    ("rehearsal", {"name": "No Spaces"}, "name: "),
    ("rehearsal", {"base": {}}, "base: give [base.ec2], [base.local] or both"),
    (
        "rehearsal",
        {"base__ec2": {"name": "debian-12-*", "user": "admin"}},
        "base.ec2: owners is needed with name: anyone may publish an AMI of that name",
    ),
    (
        "rehearsal",
        {"base__ec2": {"name": "debian-12-*", "owners": ["*"], "user": "admin"}},
        "base.ec2.owners.0: ",
    ),
    (
        "rehearsal",
        {"base__ec2": {"ssm_parameter": "/a", "owners": ["136693071363"], "user": "admin"}},
        "base.ec2: owners and most_recent go with name, not with ssm_parameter",
    ),
    (
        "rehearsal",
        {"server__container": {"reference": "vllm/vllm-openai:v0.14.0", "unpacked_gib": 1}},
        "server.container.reference: ",
    ),
    (
        "rehearsal",
        {"server__container": {**ARCHIVE, "sha256": None}},
        "server.container: image and sha256 are needed with archive",
    ),
    (
        "rehearsal",
        {"server__container": {**ARCHIVE, "reference": f"a/b@sha256:{SHA}"}},
        "server.container: give either reference (by digest) or archive",
    ),
    (
        "model-gpu-vllm",
        {"engine__options__gpu_layers": 3},
        "engine: options.gpu_layers: vllm has no such option; it has ",
    ),
    (
        "model-gpu-vllm",
        {"engine__options__quantization": "exl2"},
        "engine: options.quantization: vllm knows awq, bitsandbytes, fp8, gptq; not exl2",
    ),
    (
        "model-gpu-tgi",
        {"engine__options__max_input_tokens": 9000},
        "engine: options.max_input_tokens: 9000 leaves no room for an answer in context_tokens 8192",
    ),
    ("model-gpu-vllm", {"engine__container": None}, "engine: container: the embedded engine runs in the"),
    ("rehearsal", {"compile_cache": ["/var/cache/x"]}, "compile_cache: only engines on GPUs keep one"),
    (
        "model-gpu-vllm",
        {"boot_mode": "uefi", "launch_instance_types": ["p4d.24xlarge"]},
        "launch_instance_types: p4d.24xlarge boots legacy BIOS only: boot_mode must be legacy-bios or",
    ),
    (
        "rehearsal",
        {"launch_instance_types": ["c7g.large"]},
        "launch_instance_types: c7g.large is arm64 and the image x86_64",
    ),
    (
        "rehearsal",
        {"boot_mode": "legacy-bios", "architecture": "arm64", "builder__instance_types": ["c7g.large"]},
        "builder.instance_types: c7g.large boots UEFI only: boot_mode must be uefi or uefi-preferred",
    ),
    ("model-cpu-llama", {"weights__revision": "main"}, "weights.revision: "),
    ("model-cpu-llama", {"weights__revision": None}, "weights: hub and revision go together"),
    ("model-cpu-llama", {"weights__files": [FILE]}, "weights: file w.safetensors: give its url, or hub and"),
    (
        "rehearsal",
        {"weights__files": [{**FILE, "sha256": None}]},
        "weights: file w.safetensors: sha256 is needed with url",
    ),
    ("rehearsal", {"weights__files": [FILE, FILE]}, "weights: files: two have the same name"),
    (
        "rehearsal",
        {"weights__files": [{**FILE, "name": "../../etc/passwd"}]},
        "weights.files.0: name '../../etc/passwd' must be a plain relative path",
    ),
    ("rehearsal", {"weights__files": [{**FILE, "name": "a b"}]}, "weights.files.0: name 'a b' must be a"),
    ("rehearsal", {"weights__files": [{**FILE, "url": "ftp://x/y"}]}, "weights.files.0.url: "),
]


@pytest.mark.parametrize(("name", "changes", "said"), REFUSED, ids=[str(case[1])[:60] for case in REFUSED])
def test_refusals(make_recipe: Callable[..., Recipe], name: str, changes: dict[str, Any], said: str) -> None:
    """What cannot work is refused in one line that names file and key."""
    cleaned = {key: _without_none(value) for key, value in changes.items()}
    with pytest.raises(RecipeError) as caught:
        make_recipe(name, **cleaned)
    message = caught.value.message
    assert f"{name}.toml: {said}" in message
    assert "\n" not in message


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("content", ["name = ", "\xff"])
def test_not_toml(tmp_path: Path, content: str) -> None:
    """A file that is no TOML, or no UTF-8, is refused as such."""
    path = tmp_path / "broken.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RecipeError, match="not TOML"):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    """A recipe that is not there is refused with its path."""
    with pytest.raises(RecipeError, match=r"cannot read .*none\.toml: No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped(path: Path) -> None:
    """Every shipped recipe loads, is called as its file, and has all weights pinned."""
    recipe = load(path)
    assert recipe.name == path.stem
    assert recipe.weights is None or not recipe.weights.unpinned


def test_all_shipped() -> None:
    """The five recipes are there."""
    assert {path.stem for path in RECIPES.glob("*.toml")} == {
        "gateway-cpu",
        "model-gpu-vllm",
        "model-gpu-tgi",
        "model-cpu-llama",
        "rehearsal",
    }


def test_rehearsal_weights_are_the_committed_ones(make_recipe: Callable[..., Recipe]) -> None:
    """The rehearsal's weights have the size that they have, and the digest that the engine's record has."""
    recipe = make_recipe("rehearsal")
    assert recipe.weights is not None
    file = recipe.weights.files[0]
    path = recipe.path(str(file.url))
    record = json.loads((path.parent / "record.json").read_text())
    assert (file.bytes, file.sha256) == (path.stat().st_size, record["sha256"][file.name])


def test_unreadable_record(make_recipe: Callable[..., Recipe]) -> None:
    """A record that does not tell the digest is refused, with the form that it must have."""
    file = {"name": "w.npz", "bytes": 1, "url": "file:w.npz", "sha256_from": "nowhere.json"}
    with pytest.raises(RecipeError, match=r"weights\.files\.sha256_from: .*nowhere\.json") as caught:
        make_recipe("rehearsal", weights__files=[file])
    assert "NAME" in caught.value.hint


def test_digest_is_of_the_content(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """A recipe's digest changes with what it says and not with where it lies or how it is laid out."""
    recipe = make_recipe("gateway-cpu")
    moved = tmp_path / "deeper" / "gateway-cpu.toml"
    moved.parent.mkdir()
    moved.write_text("# moved\n\n" + (RECIPES / "gateway-cpu.toml").read_text())
    assert digest(load(moved)) == digest(recipe)
    assert digest(make_recipe("gateway-cpu", disk__root_gib=9)) != digest(recipe)


@pytest.mark.parametrize(
    ("reference", "name", "registry"),
    [
        (f"vllm/vllm-openai:v0.14.0@sha256:{SHA}", f"vllm/vllm-openai@sha256:{SHA}", None),
        (f"ghcr.io/a/b@sha256:{SHA}", f"ghcr.io/a/b@sha256:{SHA}", "ghcr.io"),
        (f"localhost:5000/a:1@sha256:{SHA}", f"localhost:5000/a@sha256:{SHA}", "localhost:5000"),
        (
            f"1234.dkr.ecr.eu-west-1.amazonaws.com/x:y@sha256:{SHA}",
            f"1234.dkr.ecr.eu-west-1.amazonaws.com/x@sha256:{SHA}",
            "1234.dkr.ecr.eu-west-1.amazonaws.com",
        ),
    ],
)
def test_references(
    make_recipe: Callable[..., Recipe], reference: str, name: str, registry: str | None
) -> None:
    """Docker is told the digest without the tag; the registry is the first part that looks like a host."""
    container = make_recipe(
        "gateway-cpu", server__container={"reference": reference, "unpacked_gib": 1}
    ).server.container
    assert (container.name, container.registry) == (name, registry)
