"""Bring containers by digest, without leaving credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from images.errors import PlanRefused
from images.recipe import LOCAL_BUILD, Container, Recipe
from images.steps.command import Action, Command, Materials, Upload
from images.steps.shell import INBOX, LOGIN, directory, quote, root

# 10 MB/s is a slow registry; unpacking takes as long again.
_SECONDS_PER_GIB = 200


def containers(recipe: Recipe, materials: Materials) -> Iterator[Action]:
    yield from _login(recipe, materials)
    for container in recipe.containers:
        if container.archive is None:
            yield from _pull(container)
        else:
            yield from _load(recipe, container, materials)
    yield root(f"rm -rf {LOGIN}", 60)


def archive_sha256(container: Container, materials: Materials) -> str:
    """What the archive must be. Raises PlanRefused when nobody has told."""
    digest = container.sha256
    if digest == LOCAL_BUILD:
        digest = materials.archive_sha256.get(str(container.archive))
    if digest is None:
        raise PlanRefused(
            f"the container archive {container.archive} was not built on this machine",
            "run scripts/make-container, or give the archive's sha256 in the recipe",
        )
    return digest


def _login(recipe: Recipe, materials: Materials) -> Iterator[Command]:
    hosts = {container.registry for container in recipe.containers}
    for host, password in sorted(materials.registry_passwords.items()):
        if host not in hosts:
            continue
        yield directory(LOGIN, 0o700)
        yield Command(
            f"docker --config {LOGIN} login --username AWS --password-stdin {quote(host)} >/dev/null 2>&1",
            sudo=True,
            stdin=password,
            timeout_s=120,
            retries=2,
            secret=True,
        )


def _pull(container: Container) -> Iterator[Command]:
    name = quote(container.name)
    timeout_s = 600 + _SECONDS_PER_GIB * container.unpacked_gib
    yield root(f"docker --config {LOGIN} pull --quiet {name}", timeout_s, retries=3)
    # Docker Hub's images are known without its host.
    known = container.name.removeprefix("docker.io/")
    inspect = f"docker image inspect --format '{{{{join .RepoDigests \"\\n\"}}}}' {name}"
    yield root(f"{inspect} | grep --quiet --line-regexp --fixed-strings {quote(known)}", 60)


def _load(recipe: Recipe, container: Container, materials: Materials) -> Iterator[Action]:
    source = recipe.path(str(container.archive))
    target = f"{INBOX}/{PurePosixPath(str(container.archive)).name}"
    path = quote(target)
    expected = archive_sha256(container, materials)
    unpack = f"zstd --decompress --stdout {path}" if target.endswith(".zst") else f"cat {path}"
    yield Upload(source, target, timeout_s=600 + _SECONDS_PER_GIB * container.unpacked_gib)
    check = f"echo {quote(f'{expected}  {target}')} | sha256sum --check --status"
    wrong = quote(
        f"container archive {source.name}: the sha256 is not {expected}; it is another than was meant"
    )
    yield root(f"{check} || {{ echo {wrong} >&2; exit 1; }}", 600)
    yield root(f"{unpack} | docker load --quiet", 600 + _SECONDS_PER_GIB * container.unpacked_gib)
    yield root(f"rm {path}", 60)
    yield root(f"docker image inspect --format '{{{{.Id}}}}' {quote(container.name)}", 60)
