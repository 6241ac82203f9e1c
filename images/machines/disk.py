"""Raw disks that are one ext4 file system: read, repaired and shrunk without a mount, so without root."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.errors import MachineFailed
from images.machines.tools import find, run, scratch

_BLOCK = 4 * 1024 * 1024
_ZEROS = memoryview(bytes(_BLOCK))
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
    """sha256 of all its bytes, holes included: those are not read, which takes a third of the time."""
    found = hashlib.sha256()
    with disk.open("rb") as file:
        at = 0
        for start, end in _data(file.fileno()):
            _add_zeros(found, start - at)
            file.seek(start)
            for offset in range(start, end, _BLOCK):
                found.update(file.read(min(_BLOCK, end - offset)))
            at = end
        _add_zeros(found, os.fstat(file.fileno()).st_size - at)
    return found.hexdigest()


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
    with scratch("disk") as root:
        if os.geteuid() != 0:
            _debugfs(disk, f"rdump / {shlex.quote(str(root))}")
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


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch that is not a hole."""
    end, size = 0, os.fstat(descriptor).st_size
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            return  # nothing but a hole is left
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def _add_zeros(found: hashlib._Hash, count: int) -> None:
    for offset in range(0, count, _BLOCK):
        found.update(_ZEROS[: min(_BLOCK, count - offset)])


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
