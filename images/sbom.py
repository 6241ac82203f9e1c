"""The image's software bill of materials: CycloneDX 1.6 JSON, by OWASP's own library.

Made here from what the machine's package database says, and not by a tool on the image: scanners such as Syft
would have to be installed there or pulled, and debsbom knows no RPM. Containers and weights are components
too; what is inside a container is its publisher's to say.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from datetime import datetime

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from images.recipe import Recipe
from images.steps.command import Facts
from images.steps.inventory import Inventory, LoadedContainer, Package

FILE_NAME = "sbom.cdx.json"


def sbom(recipe: Recipe, facts: Facts, inventory: Inventory, *, run_id: str, made_at: datetime) -> bytes:
    """The same for the same run: serial number and time come from it."""
    image = Component(
        name=recipe.name, type=ComponentType.OPERATING_SYSTEM, version=run_id, bom_ref=recipe.name
    )
    parts = sorted(_components(recipe, facts, inventory))
    bom = Bom(
        components=parts,
        metadata=BomMetaData(component=image, timestamp=made_at),
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"goldenfleet:{run_id}"),
    )
    bom.register_dependency(image, parts)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    return f"{text}\n".encode()


def digest(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def _components(recipe: Recipe, facts: Facts, inventory: Inventory) -> Iterator[Component]:
    for package in inventory.packages:
        yield _package(facts, package)
    for container in inventory.containers:
        yield _container(container)
    for file in recipe.weights.files if recipe.weights else ():
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=str(file.sha256))]
        yield Component(
            name=file.name,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            version=str(recipe.weights.revision or "") if recipe.weights else "",
            hashes=hashes,
            bom_ref=f"weights:{file.name}",
        )


def _package(facts: Facts, package: Package) -> Component:
    kind = "rpm" if facts.distribution == "amzn" else "deb"
    purl = PackageURL(
        type=kind,
        namespace=facts.distribution,
        name=package.name,
        version=package.version,
        qualifiers={"arch": package.architecture, "distro": f"{facts.distribution}-{facts.version}"},
    )
    return Component(
        name=package.name,
        type=ComponentType.LIBRARY,
        version=package.version,
        purl=purl,
        bom_ref=purl.to_string(),
    )


def _container(container: LoadedContainer) -> Component:
    algorithm, _, content = container.id.partition(":")
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=content)] if algorithm == "sha256" else []
    return Component(
        name=container.name.partition("@")[0],
        type=ComponentType.CONTAINER,
        version=container.name.partition("@")[2] or container.id,
        hashes=hashes,
        bom_ref=f"container:{container.name}",
    )
