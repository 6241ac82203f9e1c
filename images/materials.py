"""What steps need beyond the recipe, read from this machine: the edge of the pure steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from images.container import IMAGE, ensure, sha256_of
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


def archives(recipe: Recipe) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name of each archive of `local-build`, and what makes it unless it is of this checkout.

    That says in a word what it did, and raises BuilderError for what is missing or stale and cannot be made.
    """
    for container in recipe.containers:
        if container.archive is not None and container.sha256 == LOCAL_BUILD:
            path = recipe.path(container.archive)
            yield path.name, partial(_made if container.image == IMAGE else _found, path)


def _made(path: Path) -> str:
    there = path.is_file()
    if not ensure(path):
        return "of these sources already"
    return "made anew, it was of other sources" if there else "made"


def _found(path: Path) -> str:
    return f"sha256 {sha256_of(path)[:12]}"


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
