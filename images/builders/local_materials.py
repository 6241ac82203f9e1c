"""Local files for a local machine: on a read-only disk, for through SSH they come at a megabyte a second."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.machines.seed import write_iso
from images.recipe import Recipe
from images.remote import Output, Remote
from images.steps import Command, Facts, Upload

_LABEL = "GFMATERIALS"
MOUNTED = "/run/goldenfleet-materials"


@dataclass(frozen=True)
class MaterialsDisk:
    path: Path
    index: Mapping[Path, str]
    """Local file -> its name on the disk. No disk is made for none."""


def materials_disk(recipe: Recipe, path: Path) -> MaterialsDisk:
    """With every local file that the recipe names."""
    archives = [recipe.path(found.archive) for found in recipe.containers if found.archive is not None]
    files = recipe.weights.files if recipe.weights is not None else ()
    weights = [recipe.path(file.url) for file in files if file.url is not None and _is_local(file.url)]
    sources = [source for source in (*archives, *weights) if source.is_file()]
    index = {source: f"{number}" for number, source in enumerate(dict.fromkeys(sources))}
    if index:
        write_iso(path, _LABEL, {name: source for source, name in index.items()})
    return MaterialsDisk(path, index)


def _is_local(url: str) -> bool:
    return url.startswith("file:")


def copied(upload: Upload, name: str) -> str:
    """A line of root's that brings the upload from the disk, where it has that name."""
    mount = f"mkdir -p {MOUNTED} && {{ mountpoint -q {MOUNTED} || mount -o ro LABEL={_LABEL} {MOUNTED}; }}"
    return f"{mount} && install -m {upload.mode:o} {MOUNTED}/{name} {shlex.quote(upload.target)}"


class RemoteWithMaterials:
    """A Remote whose uploads come from the disk, where they are on it."""

    def __init__(self, remote: Remote, index: Mapping[Path, str]) -> None:
        self._remote = remote
        self._index = index

    def run(self, command: Command, *, check: bool = True) -> Output:
        return self._remote.run(command, check=check)

    def put(self, upload: Upload) -> None:
        name = self._index.get(upload.source.resolve())
        if name is None:
            self._remote.put(upload)
            return
        self._remote.run(Command(copied(upload, name), sudo=True, timeout_s=upload.timeout_s))

    def facts(self) -> Facts:
        return self._remote.facts()

    def close(self) -> None:
        self._remote.close()
