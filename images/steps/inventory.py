"""What is on the machine, asked before it is cleaned: for the manifest and the SBOM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from images.errors import ManifestError
from images.recipe import Recipe
from images.steps.command import Command, Facts
from images.steps.shell import quote

_SEPARATOR = "-- goldenfleet --"
_DEB = "dpkg-query --show --showformat='${Package}\\t${Version}\\t${Architecture}\\t${db:Status-Abbrev}\\n'"
_RPM = "rpm --query --all --queryformat '%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t%{ARCH}\\tii\\n'"


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    architecture: str


@dataclass(frozen=True)
class LoadedContainer:
    name: str
    id: str
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    packages: tuple[Package, ...]
    kernel: str
    driver: str
    """Version of the NVIDIA driver; empty without one."""
    containers: tuple[LoadedContainer, ...]


def ask(recipe: Recipe, facts: Facts) -> Command:
    """One command, whose output `parse` reads."""
    names = " ".join(quote(container.name) for container in recipe.containers)
    parts = (
        _RPM if facts.distribution == "amzn" else _DEB,
        "uname -r",
        "modinfo --field version nvidia 2>/dev/null || true",
        f"docker image inspect {names}",
    )
    return Command(f"; echo '{_SEPARATOR}'; ".join(parts), sudo=True, timeout_s=300, retries=1)


def parse(output: str, recipe: Recipe) -> Inventory:
    """Raises ManifestError."""
    parts = [part.strip("\n") for part in output.split(f"{_SEPARATOR}\n")]
    try:
        packages, kernel, driver, containers = parts
        loaded = json.loads(containers)
        named = zip(recipe.containers, loaded, strict=True)
        return Inventory(
            packages=tuple(sorted(_packages(packages), key=lambda package: (package.name, package.version))),
            kernel=kernel.strip(),
            driver=driver.strip(),
            containers=tuple(_container(container.name, said) for container, said in named),
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise ManifestError(f"the machine's inventory cannot be read: {exc}") from exc


def _packages(text: str) -> list[Package]:
    rows = [line.split("\t") for line in text.splitlines() if line]
    return [
        Package(name, version.removeprefix("0:"), architecture)
        for name, version, architecture, status in rows
        if status.strip().startswith(("ii", "hi"))
    ]


def _container(name: str, said: Mapping[str, object]) -> LoadedContainer:
    digests = said.get("RepoDigests") or []
    if not isinstance(digests, list):
        raise TypeError("RepoDigests is no list")
    return LoadedContainer(name, str(said["Id"]), tuple(str(digest) for digest in digests))
