"""The steps of a weights volume, and what a node is asked of it, on a real block device with a real mount."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.recipe import Recipe
from images.steps.command import Command, Materials
from images.steps.order import on_node
from images.steps.shell import WEIGHTS
from images.steps.weights import weights

CONTENT = os.urandom(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
NAME = "deep/w.bin"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"}


def shell(line: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", line], input=stdin, capture_output=True, check=False, env=ENVIRONMENT, timeout=60
    )


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device of 64 MiB; whatever is mounted of it is not any more afterwards."""
    disk = tmp_path / "disk"
    with disk.open("wb") as sparse:
        sparse.truncate(64 * 1024 * 1024)
    made = shell(f"losetup --find --show {disk}")
    if made.returncode != 0:
        pytest.skip("loop devices cannot be made here")
    path = made.stdout.decode().strip()
    mount = tmp_path / "try"
    mount.mkdir()
    if shell(f"mkfs.ext4 -q -F {path} && mount {path} {mount} && umount {mount}").returncode != 0:
        shell(f"losetup --detach {path}")
        pytest.skip("file systems cannot be mounted here")
    shell(f"wipefs --all {path}")
    yield path
    shell(f"umount {tmp_path}/weights; losetup --detach {path}")


@dataclasses.dataclass
class Node:
    """This machine in the node's place; its weights and its fstab are below a folder of the test."""

    folder: Path
    recipe: Recipe
    materials: Materials

    def run(self, command: Command) -> subprocess.CompletedProcess[bytes]:
        moved = (self._moved(command.line), self._moved((command.stdin or b"").decode()).encode())
        return shell(*moved)

    def bring(self) -> list[int]:
        steps = weights(self.recipe, self.materials)
        return [self.run(command).returncode for command in steps if isinstance(command, Command)]

    def asked(self) -> list[int]:
        (step,) = on_node(self.recipe, "baked-volume")
        return [self.run(command).returncode for command in step.commands]

    def _moved(self, text: str) -> str:
        for there in (WEIGHTS, "/etc/fstab", "/usr/share/goldenfleet"):
            text = text.replace(there, str(self.folder / there.rpartition("/")[2]))
        return text


@pytest.fixture
def node(device: str, tmp_path: Path, make_recipe: Callable[..., Recipe], materials: Materials) -> Node:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    (tmp_path / "fstab").touch()
    file = {"name": NAME, "url": "https://example.org/w", "sha256": SHA, "bytes": len(CONTENT)}
    given = dataclasses.replace(
        materials,
        strategy="baked-volume",
        weights_device=device,
        weight_urls={NAME: f"file://{source}".encode()},
    )
    return Node(tmp_path, make_recipe("rehearsal", weights={"files": [file]}), given)


def test_a_volume_is_made_filled_and_closed(node: Node, device: str) -> None:
    """After the steps the weights are on the device itself, read-only, and a node asked of them agrees."""
    assert set(node.bring()) == {0}
    assert node.asked() == [0, 0, 0]
    assert shell(f"touch {node.folder}/weights/more").returncode != 0
    assert shell(f"umount {node.folder}/weights").returncode == 0
    assert list((node.folder / "weights").iterdir()) == []
    assert node.asked() == [1, 1, 1]
    # As systemd mounts it at a node's boot, but for the label: a test beside this one has the same.
    assert shell(f"blkid --match-tag LABEL --output value {device}").stdout == b"gf-weights\n"
    entry = (node.folder / "fstab").read_text()
    (node.folder / "fstab").write_text(entry.replace("LABEL=gf-weights", device))
    mounted = shell(f"mount --fstab {node.folder}/fstab {node.folder}/weights")
    assert mounted.returncode == 0, mounted.stderr
    assert node.asked() == [0, 0, 0]


def test_a_run_that_goes_on_fills_it_again(node: Node) -> None:
    """Repeated, the steps open the closed volume, keep what is there, and close it; fstab has one entry."""
    assert set(node.bring()) == {0}
    kept = (node.folder / "weights" / NAME).stat()
    (node.folder / "source").unlink()
    assert set(node.bring()) == {0}
    assert (node.folder / "weights" / NAME).stat().st_mtime_ns == kept.st_mtime_ns
    assert (node.folder / "fstab").read_text().count("LABEL=gf-weights") == 1
    assert node.asked() == [0, 0, 0]


def test_a_volume_left_open_is_refused(node: Node) -> None:
    """A node whose volume can be written, or holds a file more, is told from a sound one."""
    assert set(node.bring()) == {0}
    folder = node.folder / "weights"
    assert shell(f"mount -o remount,rw {folder} && touch {folder}/more").returncode == 0
    assert node.asked() == [1, 1, 0]
