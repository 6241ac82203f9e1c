"""Make a base disk with mmdebstrap, once for each recipe of it; without root where users have namespaces."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from images.machines.tools import run, scratch

_PARTS = ("packages.txt", "initramfs.sh", "customize.sh", "disk.sh")
_LEAN = ("man/*", "locale/*", "doc/*", "info/*")
_LIMIT_S = 1800.0
# As root mmdebstrap mounts the host's /dev and more in its tree: in namespaces of its own these mounts, and
# all its processes, are gone as soon as it is killed, or we are.
_CONFINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
)


@dataclass(frozen=True)
class BaseDisk:
    disk: Path
    """Raw, sparse, one ext4 file system; never written to."""
    packages: Path
    """`name version` lines of what is installed."""
    digest: str
    """sha256 of all that it was made from, save the packages' own versions."""


def base_disk(suite: str, size_gib: int, cache: Path) -> BaseDisk:
    """From the cache, or made now, which takes one to two minutes. Raises MachineFailed."""
    digest = _digest(suite, size_gib)
    found = base_directory(suite, size_gib, cache)
    with _one_at_a_time(cache / "bases"):
        if not found.is_dir():
            _make(suite, size_gib, found)
        # A sweep goes by when it was last used.
        os.utime(found)
    return BaseDisk(found / "disk.raw", found / "packages.txt", digest)


def base_directory(suite: str, size_gib: int, cache: Path) -> Path:
    """Where the disk is, or will be: another place for every change of what it is made from."""
    return cache / "bases" / f"{suite}-{_digest(suite, size_gib)[:16]}"


def _make(suite: str, size_gib: int, target: Path) -> None:
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    # Without root the hooks run as another user id than ours.
    part.chmod(0o1777)
    try:
        with scratch("base") as trees:
            trees.chmod(0o1777)
            run(*_command(suite, size_gib, part), timeout_s=_LIMIT_S, environment={"TMPDIR": str(trees)})
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.chmod(0o755)
    part.rename(target)


def _command(suite: str, size_gib: int, out: Path) -> tuple[str, ...]:
    scripts = Path(str(resources.files("images.base")))
    disk = _hook(scripts / "disk.sh", out / "disk.raw", f"{size_gib}G", out / "packages.txt")
    lean = [f"--dpkgopt=path-exclude=/usr/share/{path}" for path in _LEAN]
    return (
        *(_CONFINED if os.geteuid() == 0 else ()),
        "mmdebstrap",
        "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
        "--variant=apt",
        "--format=null",
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        *lean,
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--include={','.join(_packages())}",
        f"--essential-hook={_hook(scripts / 'initramfs.sh')}",
        f"--customize-hook={_hook(scripts / 'customize.sh')}",
        f"--customize-hook={disk}",
        suite,
        "/dev/null",
    )


def _hook(script: Path, *arguments: str | Path) -> str:
    """A line for mmdebstrap's shell, which has the root as $1."""
    return f'sh {shlex.quote(str(script))} "$1" {shlex.join(map(str, arguments))}'


def _packages() -> list[str]:
    return resources.files("images.base").joinpath("packages.txt").read_text(encoding="utf-8").split()


def _digest(suite: str, size_gib: int) -> str:
    content = hashlib.sha256(f"{suite} {size_gib}\n".encode())
    for name in _PARTS:
        content.update(resources.files("images.base").joinpath(name).read_bytes())
    return content.hexdigest()


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
