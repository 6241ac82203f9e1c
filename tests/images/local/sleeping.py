"""Real machines of QEMU's that start at once, sleep, and never answer: for all that needs no guest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import struct
from pathlib import Path

from images.base.build import base_directory
from images.builders.local import LocalBuilder, LocalSettings
from images.clock import Clock
from images.machines.tools import run as run_tool
from images.recipe import Recipe
from images.remote import Login, Output
from images.steps import Command, Facts, Upload

ROOT = Path(__file__).parent.parent.parent.parent
FACTS = Facts("debian", "12", "bookworm", "x86_64", "admin")
_MARK = "-- goldenfleet --\n"


def kernel() -> bytes:
    """A bzImage of the least that QEMU boots: cli; hlt; jump back to hlt."""
    image = bytearray(4 * 512)
    image[0x1F1] = 1  # sectors of set-up
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x200:0x202] = b"\xeb\x7e"  # jump over the header
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = struct.pack("<H", 0x0203)
    image[0x211] = 1  # loaded high
    image[0x22C:0x230] = struct.pack("<I", 0x37FFFFFF)  # the highest place of an initrd
    image[0x280:0x284] = b"\xfa\xf4\xeb\xfd"
    return bytes(image)


def write_recipe(directory: Path) -> Path:
    """The rehearsal's, with an archive that nobody has to build."""
    archive = directory / "container.tar"
    archive.write_bytes(b"no container at all")
    text = (ROOT / "images/recipes/rehearsal.toml").read_text()
    text = text.replace("../../build/goldenfleet-server.tar", str(archive))
    text = text.replace("local-build", hashlib.sha256(archive.read_bytes()).hexdigest())
    path = directory / "sleeping.toml"
    path.write_text(text.replace("../../", f"{ROOT}/"))
    return path


def write_state(state: Path, recipe: Recipe) -> None:
    """A cached base that sleeps, on QEMU's TCG."""
    tree = state / "tree"
    (tree / "boot").mkdir(parents=True)
    (tree / "boot/vmlinuz-1").write_bytes(kernel())
    (tree / "boot/initrd.img-1").write_bytes(b"\0" * 512)
    found = base_directory("bookworm", recipe.disk.root_gib, state / "cache")
    found.mkdir(parents=True)
    with (found / "disk.raw").open("wb") as file:
        file.truncate(16 * 1024**2)
    run_tool("mkfs.ext4", "-q", "-F", "-L", "root", "-d", tree, found / "disk.raw")
    (found / "packages.txt").touch()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    proved = {"boot_id": boot_id, "accelerator": "tcg", "refused": {}}
    (state / "cache/accelerator.json").write_text(json.dumps(proved))


def machines_in(directory: Path) -> list[int]:
    """Processes of QEMU's whose disks are below the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"qemu-system-x86_64") and any(bytes(directory) in word for word in words):
                found.append(int(process.name))
    return found


class Obedient:
    """A shell on a machine that sleeps: all is done at once, and told to power off it is ended."""

    def __init__(self, recipe: Recipe, directory: Path) -> None:
        self._recipe = recipe
        self._directory = directory

    def run(self, command: Command, *, check: bool = True) -> Output:
        if "poweroff" in command.line:
            for pid in machines_in(self._directory):
                os.kill(pid, signal.SIGKILL)
        asked = "dpkg-query --show" in command.line and "docker image inspect" in command.line
        said = _MARK.join(["", "6.1.0\n", "", self._containers()]) if asked else ""
        return Output(said, "", 0)

    def put(self, upload: Upload) -> None: ...

    def facts(self) -> Facts:
        return FACTS

    def close(self) -> None: ...

    def _containers(self) -> str:
        return json.dumps([{"Id": f"sha256:{found.name}"} for found in self._recipe.containers])


def builder(state: Path, recipe: Recipe) -> LocalBuilder:
    """Whose machines are real, and obey without being asked."""

    def connect(login: Login, deadline: float, clock: Clock) -> Obedient:
        return Obedient(recipe, state / "runs")

    return LocalBuilder(state, LocalSettings("tcg", builder_memory_mib=64, node_memory_mib=64), connect)
