"""Disks are read, repaired and cleaned without being booted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from images.errors import MachineFailed
from images.forbidden import contains
from images.machines import disk
from images.machines.tools import run

SECRET = b"canary-7c2f-of-the-bake"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A small disk with two kernels and a file of which no block shall be found once it is deleted."""
    tree = tmp_path / "tree"
    (tree / "boot").mkdir(parents=True)
    for version in ("6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64"):
        (tree / "boot" / f"vmlinuz-{version}").write_text(f"kernel {version}")
        (tree / "boot" / f"initrd.img-{version}").write_text(f"initrd {version}")
    (tree / "secret").write_bytes(SECRET * 1000)
    made = tmp_path / "disk.raw"
    with made.open("wb") as file:
        file.truncate(16 * 1024**2)
    run("mkfs.ext4", "-q", "-F", "-L", "root", "-d", tree, made)
    return made


def test_a_disk_without_a_kernel_cannot_be_booted(tmp_path: Path) -> None:
    """The message names the disk, and not the tool that looked."""
    empty = tmp_path / "empty.raw"
    with empty.open("wb") as file:
        file.truncate(8 * 1024**2)
    run("mkfs.ext4", "-q", "-F", empty)
    with pytest.raises(MachineFailed, match=r"empty\.raw holds no kernel"):
        disk.boot_files(empty, tmp_path)


def test_a_disk_that_is_broken_beyond_repair_is_refused(raw: Path) -> None:
    """Overwritten superblocks are an error, and never an image."""
    with raw.open("r+b") as file:
        file.write(os.urandom(12 * 1024**2))
    with pytest.raises(MachineFailed, match="e2fsck"):
        disk.finish(raw)


def test_deleted_secrets_are_off_a_finished_disk(raw: Path) -> None:
    """A deleted file's blocks are still on the disk until it is finished, and then they are not."""
    run("debugfs", "-w", "-R", "rm /secret", raw)
    assert contains(raw, SECRET)
    disk.finish(raw)
    assert not contains(raw, SECRET)


def test_the_newest_kernel_boots(raw: Path, tmp_path: Path) -> None:
    """Versions are compared as numbers: 10 is newer than 9."""
    kernel, initrd = disk.boot_files(raw, tmp_path)
    assert kernel.read_text() == "kernel 6.1.0-10-cloud-amd64"
    assert initrd.read_text() == "initrd 6.1.0-10-cloud-amd64"


def test_a_disks_files_can_be_read(raw: Path) -> None:
    """The tree shows what is on the disk, and is gone afterwards."""
    with disk.opened(raw) as root:
        assert (root / "secret").read_bytes() == SECRET * 1000
    assert not root.exists()


def test_a_disk_grows_with_its_file_system(raw: Path) -> None:
    """A larger root has its room inside the file system, and loses nothing."""
    disk.grow(raw, 1)
    assert raw.stat().st_size == 1024**3
    with disk.opened(raw) as root:
        assert os.statvfs(root).f_blocks * os.statvfs(root).f_frsize > 900 * 1024**2 or os.geteuid() != 0
        assert (root / "secret").exists()


def test_a_disk_keeps_its_holes_when_moved(raw: Path, tmp_path: Path) -> None:
    """A copy to another file system is as sparse as the disk, with the same digest."""
    before, allocated = disk.digest(raw), disk.allocated_mib(raw)
    target = Path("/dev/shm") / f"goldenfleet-test-{os.getpid()}.raw"
    try:
        disk.move(raw, target)
        assert disk.digest(target) == before
        assert disk.allocated_mib(target) <= allocated + 1
        assert not raw.exists()
    finally:
        target.unlink(missing_ok=True)
