"""The manifest: exactly what is in an image, and how two images differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from images.errors import ManifestError
from images.recipe import Recipe, digest
from images.steps.command import Facts, Strategy
from images.steps.inventory import Inventory

FORMAT: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContainerPart(_Part):
    name: str
    id: str
    digests: tuple[str, ...] = ()


class WeightPart(_Part):
    name: str
    sha256: str
    bytes: int


class PackagePart(_Part):
    name: str
    version: str
    architecture: str


class SbomPart(_Part):
    path: str
    """Beside the manifest."""
    sha256: str


class VolumePart(_Part):
    """A volume that nodes get with the image; see `images.builders.Volume`."""

    holds: Literal["root", "weights"]
    device: str
    snapshot: str
    gib: int
    throughput_mib_s: int
    iops: int
    initialization_mib_s: int | None = None


class ImagePart(_Part):
    """Known only once the image is made; on the image itself it is missing."""

    id: str
    name: str
    region: str = ""
    digest: str = ""
    """sha256 of a disk image; AMIs have none."""
    snapshots: tuple[str, ...] = ()
    initialization_mib_s: int | None = None
    volumes: tuple[VolumePart, ...] = ()


class CheckPart(_Part):
    name: str
    seconds: float


class Manifest(_Part):
    format: Literal[1] = FORMAT
    run_id: str
    made_at: str
    """UTC, ISO 8601."""
    recipe: str
    recipe_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: str
    architecture: str
    base: str
    """What the builder started from: an AMI's id, or a suite."""
    distribution: str
    kernel: str
    driver: str = ""
    strategy: Strategy | None = None
    containers: tuple[ContainerPart, ...]
    weights: tuple[WeightPart, ...] = ()
    packages: tuple[PackagePart, ...]
    sbom: SbomPart | None = None
    image: ImagePart | None = None
    checks: tuple[CheckPart, ...] = ()
    boot_seconds: float | None = None
    """From launch to ready, as measured on the image's first fresh boot."""

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"

    def digest(self) -> str:
        """sha256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Change:
    """One difference. `before` or `after` is None where there is none."""

    part: str
    name: str
    before: str | None
    after: str | None


def describe(
    recipe: Recipe,
    facts: Facts,
    inventory: Inventory,
    *,
    run_id: str,
    made_at: str,
    base: str,
    strategy: Strategy | None,
    sbom: SbomPart | None,
) -> Manifest:
    """The manifest of a machine that is about to be imaged."""
    files = recipe.weights.files if recipe.weights else ()
    return Manifest(
        run_id=run_id,
        made_at=made_at,
        recipe=recipe.name,
        recipe_digest=digest(recipe),
        role=recipe.role,
        architecture=recipe.architecture,
        base=base,
        distribution=f"{facts.distribution} {facts.version}",
        kernel=inventory.kernel,
        driver=inventory.driver,
        strategy=strategy,
        containers=tuple(
            ContainerPart(name=found.name, id=found.id, digests=found.digests)
            for found in inventory.containers
        ),
        weights=tuple(
            WeightPart(name=file.name, sha256=str(file.sha256), bytes=file.bytes) for file in files
        ),
        packages=tuple(
            PackagePart(name=found.name, version=found.version, architecture=found.architecture)
            for found in inventory.packages
        ),
        sbom=sbom,
    )


def parse(text: str, source: str = "manifest") -> Manifest:
    """Raises ManifestError."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in error["loc"])
        raise ManifestError(
            f"{source} is no manifest: {key or 'it'}: {error['msg']}",
            "it may be of another version of Goldenfleet: bake the image again",
        ) from exc


def read(path: Path) -> Manifest:
    """Raises ManifestError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise ManifestError(f"cannot read the manifest {path}: {exc}") from exc


def diff(before: Manifest, after: Manifest) -> tuple[Change, ...]:
    """What an image has that the other has not; run, time and image id always differ and are left out."""
    return tuple(_changes(before, after))


def _changes(before: Manifest, after: Manifest) -> Iterator[Change]:
    for name in ("recipe", "recipe_digest", "role", "architecture", "base", "distribution"):
        yield from _change("image", name, getattr(before, name), getattr(after, name))
    for name in ("kernel", "driver", "strategy"):
        yield from _change("system", name, getattr(before, name) or None, getattr(after, name) or None)
    yield from _named("container", _containers(before), _containers(after))
    yield from _named("weights", _weights(before), _weights(after))
    yield from _named("package", _packages(before), _packages(after))


def _named(part: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        yield from _change(part, name, before.get(name), after.get(name))


def _change(part: str, name: str, before: str | None, after: str | None) -> Iterator[Change]:
    if before != after:
        yield Change(part, name, before, after)


def _containers(manifest: Manifest) -> dict[str, str]:
    """Repository -> digest or id: an update is one change, not a removal and an addition."""
    return {
        found.name.partition("@")[0]: found.name.partition("@")[2] or found.id
        for found in manifest.containers
    }


def _weights(manifest: Manifest) -> dict[str, str]:
    return {file.name: file.sha256 for file in manifest.weights}


def _packages(manifest: Manifest) -> dict[str, str]:
    """Kernels, and libraries of two architectures, are installed side by side."""
    versions: dict[str, list[str]] = {}
    for package in manifest.packages:
        versions.setdefault(f"{package.name}:{package.architecture}", []).append(package.version)
    return {name: ", ".join(sorted(found)) for name, found in versions.items()}
