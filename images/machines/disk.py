"""Raw disks that are one ext4 file system: read, repaired and shrunk without a mount, so without root."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from images.errors import MachineFailed
from images.machines.tools import find, run

_BLOCK = 4 * 1024 * 1024
_REPAIRED = "ended with 1:"


def copy_sparse(source: Path, target: Path) -> None:
    run("cp", "--sparse=always", "--reflink=auto", source, target)


def grow(disk: Path, gib: int) -> None:
    """Make disk and file system at least that large."""
    if disk.stat().st_size >= gib * 1024**3:
        return
    os.truncate(disk, gib * 1024**3)
    repair(disk)
    run("resize2fs", disk)


def repair(disk: Path) -> None:
    """Replay the journal and put right what can be. Raises MachineFailed if that is not all."""
    _check(disk, "-fp")


def finish(disk: Path) -> None:
    """Make a disk that was shut down fit to be an image: sound, and with its free blocks given back.

    Blocks of deleted files are gone with that, and what secrets were in them.
    """
    repair(disk)
    _check(disk, "-fy", "-E", "discard")


def digest(disk: Path) -> str:
    """sha256 of all its bytes, holes included."""
    with disk.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def boot_files(disk: Path, directory: Path) -> tuple[Path, Path]:
    """Its newest kernel and initrd, copied to `directory`."""
    listing = _debugfs(disk, "ls -p /boot").decode("utf-8", "replace")
    versions = re.findall(r"/vmlinuz-([^/\s]+)/", listing)
    if not versions:
        raise MachineFailed(
            f"{disk} holds no kernel in /boot", "it is no image that was baked on this machine"
        )
    newest = max(versions, key=_version)
    kernel, initrd = directory / "vmlinuz", directory / "initrd.img"
    _debugfs(disk, f"dump /boot/vmlinuz-{newest} {shlex.quote(str(kernel))}")
    _debugfs(disk, f"dump /boot/initrd.img-{newest} {shlex.quote(str(initrd))}")
    return kernel, initrd


@contextmanager
def opened(disk: Path) -> Iterator[Path]:
    """The files of a disk that no machine runs on, below a directory, to be read only.

    Root mounts it; anyone else gets a copy, which takes its size once more.
    """
    with TemporaryDirectory(prefix="goldenfleet-disk-") as name:
        root = Path(name)
        if os.geteuid() != 0:
            _debugfs(disk, f"rdump / {shlex.quote(name)}")
            yield root
            return
        run("mount", "-o", "loop,ro,noload", disk, root)
        try:
            yield root
        finally:
            run("umount", root)


def allocated_mib(disk: Path) -> int:
    return disk.stat().st_blocks * 512 // 1024**2


def move(source: Path, target: Path) -> None:
    """At once where both are on one file system; else its holes are kept."""
    try:
        source.rename(target)
    except OSError:
        part = target.with_suffix(".part")
        copy_sparse(source, part)
        part.rename(target)
        source.unlink()


def _check(disk: Path, *options: str) -> None:
    try:
        run("e2fsck", *options, disk)
    except MachineFailed as exc:
        # 1: errors were found, and corrected.
        if _REPAIRED not in exc.message:
            raise


def _debugfs(disk: Path, request: str) -> bytes:
    find("debugfs")
    return run("debugfs", "-R", request, disk)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
