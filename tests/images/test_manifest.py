from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from images.errors import ManifestError
from images.manifest import Change, ImagePart, Manifest, SbomPart, describe, diff, parse, read
from images.recipe import Recipe, digest
from images.sbom import sbom
from images.steps.command import Facts
from images.steps.inventory import Inventory, LoadedContainer, Package

FACTS = Facts("debian", "12", "bookworm", "x86_64", "admin")
PACKAGES = (Package("curl", "7.88.1-10", "amd64"), Package("libc6", "2.36-9", "amd64"))
ID = f"sha256:{'d' * 64}"


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe("rehearsal")


@pytest.fixture
def inventory() -> Inventory:
    return Inventory(PACKAGES, "6.1.0-40", "", (LoadedContainer("goldenfleet-server:local", ID, ()),))


@pytest.fixture
def manifest(recipe: Recipe, inventory: Inventory) -> Manifest:
    return describe(
        recipe,
        FACTS,
        inventory,
        run_id="20261121-040000-abcdef",
        made_at="2026-11-21T04:00:00Z",
        base="bookworm",
        strategy="baked-root",
        sbom=SbomPart(path="sbom.cdx.json", sha256="e" * 64),
    )


def test_says_what_is_in_the_image(recipe: Recipe, manifest: Manifest) -> None:
    """Recipe, containers, weights and packages are there by digest and version."""
    assert manifest.recipe_digest == digest(recipe)
    assert manifest.containers[0].id == ID
    assert recipe.weights is not None
    assert manifest.weights[0].sha256 == recipe.weights.files[0].sha256
    assert [package.name for package in manifest.packages] == ["curl", "libc6"]


def test_round_trip(manifest: Manifest, tmp_path: Path) -> None:
    """JSON and back is the same manifest, with the same digest; any change changes the digest."""
    made = manifest.model_copy(update={"image": ImagePart(id="ami-1", name="n"), "boot_seconds": 12.5})
    path = tmp_path / "manifest.json"
    path.write_text(made.to_json())
    assert read(path) == made
    assert read(path).digest() == made.digest()
    assert made.digest() != manifest.digest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format"),
        ({"recipe_digest": "short"}, "recipe_digest"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_foreign_manifests(manifest: Manifest, change: dict[str, Any], said: str) -> None:
    """A manifest of another form is refused by the key, never guessed at."""
    data = {**json.loads(manifest.to_json()), **change}
    with pytest.raises(ManifestError, match=f"x is no manifest: {said}"):
        parse(json.dumps(data), "x")


def test_missing(tmp_path: Path) -> None:
    """A manifest that is not there is an error of ours."""
    with pytest.raises(ManifestError, match="cannot read the manifest"):
        read(tmp_path / "none.json")


def test_no_difference(manifest: Manifest) -> None:
    """Two bakes of the same content differ in nothing: run, time and image id do not count."""
    again = manifest.model_copy(
        update={"run_id": "x", "made_at": "y", "image": ImagePart(id="ami-2", name="n"), "boot_seconds": 1.0}
    )
    assert diff(manifest, again) == ()


def test_differences(manifest: Manifest) -> None:
    """A changed, a new and a gone package, another container, kernel and base are one line each."""
    packages = (
        manifest.packages[0].model_copy(update={"version": "7.88.1-11"}),
        manifest.packages[0].model_copy(update={"name": "zstd", "version": "1.5"}),
    )
    container = manifest.containers[0].model_copy(update={"id": "sha256:new"})
    other = manifest.model_copy(
        update={"packages": packages, "containers": (container,), "kernel": "6.1.0-41", "base": "trixie"}
    )
    assert diff(manifest, other) == (
        Change("image", "base", "bookworm", "trixie"),
        Change("system", "kernel", "6.1.0-40", "6.1.0-41"),
        Change("container", "goldenfleet-server:local", ID, "sha256:new"),
        Change("package", "curl:amd64", "7.88.1-10", "7.88.1-11"),
        Change("package", "libc6:amd64", "2.36-9", None),
        Change("package", "zstd:amd64", None, "1.5"),
    )


def test_packages_side_by_side(manifest: Manifest) -> None:
    """Two versions of one package are told together; their order does not matter."""
    one = manifest.packages[0]
    two = one.model_copy(update={"version": "9"})
    left = manifest.model_copy(update={"packages": (one, two)})
    assert diff(left, manifest.model_copy(update={"packages": (two, one)})) == ()
    gone = diff(left, manifest.model_copy(update={"packages": (two,)}))
    assert gone == (Change("package", "curl:amd64", "7.88.1-10, 9", "9"),)


def test_sbom(recipe: Recipe, inventory: Inventory) -> None:
    """The SBOM is CycloneDX with purls and checksums, and the same for the same run."""
    when = datetime(2026, 11, 21, 4, tzinfo=UTC)
    document = sbom(recipe, FACTS, inventory, run_id="r1", made_at=when)
    assert document == sbom(recipe, FACTS, inventory, run_id="r1", made_at=when)
    told = json.loads(document)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in told["components"]}
    assert parts["curl"]["purl"] == "pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12"
    assert parts["goldenfleet-server:local"]["type"] == "container"
    assert recipe.weights is not None
    weights = parts["weights.npz"]
    assert weights["hashes"] == [{"alg": "SHA-256", "content": recipe.weights.files[0].sha256}]


def test_sbom_of_rpms(recipe: Recipe, inventory: Inventory) -> None:
    """Amazon Linux packages are RPMs by their purl."""
    facts = Facts("amzn", "2023", "", "x86_64", "ec2-user")
    when = datetime(2026, 11, 21, 4, tzinfo=UTC)
    told = json.loads(sbom(recipe, facts, inventory, run_id="r1", made_at=when))
    assert any(part.get("purl", "").startswith("pkg:rpm/amzn/curl@") for part in told["components"])
