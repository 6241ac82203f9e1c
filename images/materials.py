"""What steps need beyond the recipe, read from this machine: the edge of the pure steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from images.container import sha256_of
from images.recipe import LOCAL_BUILD, Recipe
from images.steps.command import Materials, Strategy


def complete(materials: Materials, recipe: Recipe, strategy: Strategy | None) -> Materials:
    """With the plan's strategy, and the digests of archives built here. Raises BuilderError."""
    digests = {
        str(container.archive): sha256_of(recipe.path(str(container.archive)))
        for container in recipe.containers
        if container.archive is not None and container.sha256 == LOCAL_BUILD
    }
    return dataclasses.replace(
        materials, strategy=strategy, archive_sha256={**digests, **materials.archive_sha256}
    )


def sign(materials: Materials, recipe: Recipe, presign: Callable[[str], str]) -> Materials:
    """With a signed URL for every file at s3://, so that the builder needs no credentials."""
    if recipe.weights is None:
        return materials
    urls = {
        file.name: presign(file.url).encode()
        for file in recipe.weights.files
        if file.url is not None and file.url.startswith("s3://")
    }
    return dataclasses.replace(materials, weight_urls={**urls, **materials.weight_urls})
