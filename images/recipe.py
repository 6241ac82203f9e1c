"""Recipes: what an image holds, from a TOML file, refused where it cannot work.

Paths in a recipe are relative to its own file. Sizes named *_gib are GiB.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from images.checks import Check
from images.engines import ENGINES, EngineKind, EngineOptions, refused_options
from images.errors import RecipeError
from images.instance_types import BootMode, problem_with_type
from images.steps.command import Strategy

LOCAL_BUILD = "local-build"

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=48)]
InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Account = Annotated[str, StringConstraints(pattern=r"^(\d{12}|amazon|self)$")]
Reference = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9._-]+)?@sha256:[0-9a-f]{64}$")
]
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9._-]+$")]
HubId = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Gib = Annotated[float, Field(gt=0, le=16_384)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ec2Base(_Strict):
    """The AMI that a builder starts from: a public parameter, or the newest of its owner's."""

    ssm_parameter: str | None = Field(default=None, pattern=r"^/[\w./-]+$")
    owners: tuple[Account, ...] = ()
    name: str | None = Field(default=None, min_length=3)
    most_recent: bool = False
    user: str = Field(pattern=r"^[a-z_][a-z0-9_-]*$")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.ssm_parameter is None) == (self.name is None):
            raise ValueError("give either ssm_parameter, or name with owners")
        if self.name is not None and not self.owners:
            raise ValueError("owners is needed with name: anyone may publish an AMI of that name")
        if self.ssm_parameter is not None and (self.owners or self.most_recent):
            raise ValueError("owners and most_recent go with name, not with ssm_parameter")
        return self


class LocalBase(_Strict):
    """The Debian suite of which mmdebstrap makes the base disk."""

    suite: Literal["bookworm", "trixie"]


class Base(_Strict):
    ec2: Ec2Base | None = None
    local: LocalBase | None = None

    @model_validator(mode="after")
    def _any(self) -> Self:
        if self.ec2 is None and self.local is None:
            raise ValueError("give [base.ec2], [base.local] or both")
        return self


class Disk(_Strict):
    root_gib: int = Field(ge=2, le=16_384)
    base_gib: Gib
    """What the base image fills by itself, with Docker (and driver)."""
    throughput_mib_s: int = Field(default=125, ge=125, le=2000)
    """gp3 throughput of the volume that holds the weights; 125 MiB/s is in its price."""
    iops: int = Field(default=3000, ge=3000, le=80_000)
    initialization_mib_s: int | None = Field(default=None, ge=100, le=300)
    """VolumeInitializationRate that nodes ask for."""


class Builder(_Strict):
    instance_types: tuple[InstanceType, ...] = Field(min_length=1)
    purchase: tuple[Literal["on-demand", "spot"], ...] = Field(default=("on-demand",), min_length=1)


class Container(_Strict):
    """From a registry by digest, or from an archive that `docker load` reads."""

    reference: Reference | None = None
    archive: str | None = Field(default=None, min_length=1)
    image: Image | None = None
    """Name that the archive gives its image."""
    sha256: Sha256 | Literal["local-build"] | None = None
    """Of the archive; `local-build` takes the archive that was built on this machine, whatever its digest,
    and the manifest says which it was."""
    unpacked_gib: Gib

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.reference is None) == (self.archive is None):
            raise ValueError("give either reference (by digest) or archive")
        if self.archive is not None and (self.image is None or self.sha256 is None):
            raise ValueError(
                f"image and sha256 are needed with archive (sha256 may be {LOCAL_BUILD!r} for your own build)"
            )
        if self.reference is not None and (self.image is not None or self.sha256 is not None):
            raise ValueError("image and sha256 go with archive; a reference carries its digest")
        return self

    @property
    def name(self) -> str:
        """What `docker run` is told; a digest without its tag, for `docker run` takes no both."""
        if self.reference is None:
            return str(self.image)
        repository, _, digest = self.reference.partition("@")
        return f"{re.sub(r':[A-Za-z0-9._-]+$', '', repository)}@{digest}"

    @property
    def registry(self) -> str | None:
        """Host to log in at; None for an archive or for the default registry."""
        host = (self.reference or "").partition("/")[0]
        return host if "." in host or ":" in host else None


class Server(_Strict):
    """Our server's container: every role runs it."""

    container: Container


class Engine(_Strict):
    kind: EngineKind
    model: str = Field(min_length=1, pattern=r"^[\w./-]+$")
    """Id under which clients ask for the model."""
    container: Container | None = None
    options: EngineOptions = EngineOptions()

    @model_validator(mode="after")
    def _options_exist(self) -> Self:
        problem = refused_options(self.kind, self.options)
        if problem:
            raise ValueError(problem)
        if (self.container is None) != (self.kind == "embedded"):
            raise ValueError("container: the embedded engine runs in the server's, every other needs its own")
        return self


class Shape(_Strict):
    """What the KV cache's size follows from; see `images.sizing`."""

    layers: int = Field(ge=1, le=1000)
    kv_heads: int = Field(ge=1, le=1000)
    head_dim: int = Field(ge=1, le=4096)
    attention: Literal["full", "mla", "sliding-window", "hybrid"] = "full"


class WeightFile(_Strict):
    name: str = Field(min_length=1, max_length=200)
    url: str | None = Field(default=None, pattern=r"^(s3://[a-z0-9.-]+/|https://|file:)\S+$")
    sha256: Sha256 | None = None
    sha256_from: str | None = Field(default=None, min_length=1)
    """A committed JSON file with {"sha256": {NAME: DIGEST}}."""
    bytes: int = Field(ge=1)

    @model_validator(mode="after")
    def _safe(self) -> Self:
        path = PurePosixPath(self.name)
        if path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[\w./-]+", self.name):
            raise ValueError(f"name {self.name!r} must be a plain relative path")
        return self


class Weights(_Strict):
    strategy: Strategy | Literal["auto"] = "auto"
    hub: HubId | None = None
    revision: Commit | None = None
    """A commit: branches and tags move."""
    files: tuple[WeightFile, ...] = Field(min_length=1)
    shape: Shape | None = None

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision go together; revision is a commit of 40 hex digits")
        for file in self.files:
            if (file.url is None) != (self.hub is not None):
                raise ValueError(f"file {file.name}: give its url, or hub and revision for all files")
            if file.url is not None and file.sha256 is None:
                raise ValueError(f"file {file.name}: sha256 is needed with url")
        if len({file.name for file in self.files}) != len(self.files):
            raise ValueError("files: two have the same name")
        return self

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def unpinned(self) -> tuple[str, ...]:
        """Files without a checksum: such a recipe loads, and cannot be baked."""
        return tuple(file.name for file in self.files if file.sha256 is None)


class Unit(_Strict):
    """A systemd service of the recipe's own, next to those of every image."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*\.service$")
    description: str = Field(min_length=1, pattern=r"^[^\n]+$")
    command: str = Field(pattern=r"^/[^\n]+$")
    oneshot: bool = False
    after: tuple[str, ...] = ()


class PackageSource(_Strict):
    """A package repository that the base image does not know, e.g. of the NVIDIA container toolkit."""

    name: Slug
    line: str = Field(pattern=r"^[^\n]+$")
    """One line of apt's sources.list without options, or the baseurl of a yum repository."""
    key: str = Field(min_length=1)
    """File with its ASCII-armoured public key."""


class Recipe(_Strict):
    name: Slug
    role: Literal["gateway", "model"]
    architecture: Literal["x86_64", "arm64"]
    boot_mode: BootMode
    base: Base
    disk: Disk
    builder: Builder
    launch_instance_types: tuple[InstanceType, ...] = Field(min_length=1)
    server: Server
    engine: Engine | None = None
    weights: Weights | None = None
    package_sources: tuple[PackageSource, ...] = ()
    startup: tuple[Unit, ...] = ()
    checks: tuple[Check, ...] = Field(min_length=1)
    compile_cache: tuple[Annotated[str, StringConstraints(pattern=r"^/[\w./-]+$")], ...] = ()
    directory: Path = Field(default=Path(), exclude=True, repr=False)

    @model_validator(mode="after")
    def _fits_role(self) -> Self:
        if self.role == "model" and (self.engine is None or self.weights is None):
            raise ValueError("engine and weights are needed for role model")
        if self.role == "gateway" and (self.engine is not None or self.weights is not None):
            raise ValueError("engine and weights are not for role gateway")
        if self.compile_cache and not (self.engine and ENGINES[self.engine.kind].gpu):
            raise ValueError("compile_cache: only engines on GPUs keep one")
        return self

    @model_validator(mode="after")
    def _runs_on_types(self) -> Self:
        for key, types in (
            ("builder.instance_types", self.builder.instance_types),
            ("launch_instance_types", self.launch_instance_types),
        ):
            for name in types:
                problem = problem_with_type(name, self.architecture, self.boot_mode)
                if problem:
                    raise ValueError(f"{key}: {problem}")
        return self

    @property
    def gpu(self) -> bool:
        return self.engine is not None and ENGINES[self.engine.kind].gpu

    @property
    def containers(self) -> tuple[Container, ...]:
        engine = self.engine.container if self.engine else None
        return (self.server.container, *([engine] if engine else []))

    def path(self, relative: str) -> Path:
        """A path of the recipe, as this machine has it."""
        return (self.directory / relative.removeprefix("file:")).resolve()


def load(path: Path) -> Recipe:
    """Raises RecipeError with one line that names the key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise RecipeError(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{path}: not TOML: {exc}") from exc
    return parse(data, path)


def parse(data: Mapping[str, Any], path: Path) -> Recipe:
    """A recipe as it stands in the file `path`, which need not exist. Raises RecipeError."""
    directory = path.parent.resolve()
    try:
        return Recipe.model_validate({**_with_recorded_digests(data, directory), "directory": directory})
    except ValidationError as exc:
        raise RecipeError(f"{path}: {_first_problem(exc)}") from exc


def digest(recipe: Recipe) -> str:
    """sha256 of the canonical JSON: the same wherever the recipe lies and however it is laid out."""
    content = recipe.model_dump(mode="json", exclude_defaults=True)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _with_recorded_digests(data: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    weights = data.get("weights")
    if not isinstance(weights, dict) or not isinstance(weights.get("files"), list):
        return dict(data)
    files = [_with_recorded_digest(file, directory) for file in weights["files"]]
    return {**data, "weights": {**weights, "files": files}}


def _with_recorded_digest(file: Any, directory: Path) -> Any:
    if not isinstance(file, dict) or "sha256_from" not in file or "sha256" in file:
        return file
    record = directory / str(file["sha256_from"])
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["sha256"][file["name"]]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise RecipeError(
            f"weights.files.sha256_from: {record} does not tell the sha256 of {file.get('name')}",
            'it must be JSON: {"sha256": {"NAME": "DIGEST"}}',
        ) from exc
    return {**file, "sha256": recorded}


def _first_problem(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"])
    said = str(error["msg"]).removeprefix("Value error, ").replace("\n", " ")
    if error["type"] == "extra_forbidden":
        said = "there is no such key; check its spelling"
    elif error["type"] not in ("value_error", "missing"):
        said = f"{said}; it is {error['input']!r}"
    return f"{key}: {said}" if key else said
