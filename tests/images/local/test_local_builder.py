"""The local builder when things go wrong. That it bakes is shown in test_vm.py."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from images.base.build import base_directory
from images.builders.local import LocalBuilder, LocalSettings
from images.clock import SystemClock
from images.errors import MachineFailed, PlanRefused
from images.machines.choose import prove
from images.machines.hardware import Accelerator, Hardware
from images.machines.machine import Machine
from images.machines.tools import run as run_tool
from images.recipe import Recipe
from images.run import Run, new_run


def make_run(state: Path, recipe: Recipe) -> Run:
    return new_run(state / "runs", recipe, "rehearsal", SystemClock(), random.Random(1))


def put_base(state: Path, recipe: Recipe, *files: str) -> None:
    """A base disk that holds nothing but these files, empty."""
    tree = state / "tree"
    tree.mkdir(parents=True)
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    found = base_directory("bookworm", recipe.disk.root_gib, state / "cache")
    found.mkdir(parents=True)
    with (found / "disk.raw").open("wb") as file:
        file.truncate(32 * 1024**2)
    run_tool("mkfs.ext4", "-q", "-F", "-L", "root", "-d", tree, found / "disk.raw")


def builder(state: Path, accelerator: Accelerator) -> LocalBuilder:
    return LocalBuilder(state, LocalSettings(accelerator))


def test_a_recipe_without_a_suite_is_refused(tmp_path: Path, make_recipe) -> None:
    """A recipe for EC2 only says what it lacks, and nothing is left of the attempt."""
    run = make_run(tmp_path, make_recipe(base__local=None))
    with pytest.raises(PlanRefused, match=r"has no \[base\.local\]"):
        builder(tmp_path, "tcg").start(run)
    assert run.ledger.standing == ()


@pytest.mark.parametrize(
    ("accelerator", "said"), [("tcg", "holds no kernel"), ("uml", "No working init|gone")]
)
def test_a_base_that_does_not_boot_is_said_at_once(
    tmp_path: Path, make_recipe, accelerator: Accelerator, said: str
) -> None:
    """Nobody waits for a login on a machine that died, and its console is in the evidence."""
    assert prove(accelerator) is None
    recipe = make_recipe()
    put_base(tmp_path, recipe)
    run, made = make_run(tmp_path, recipe), builder(tmp_path, accelerator)
    with pytest.raises(MachineFailed, match=said):
        made.start(run)
    if accelerator == "uml":
        assert b"Kernel panic" in made.evidence(run)["builder-console.log"]
    made.discard(run, keep_image=False)


def test_nothing_is_left_of_a_discarded_run(tmp_path: Path, make_recipe) -> None:
    """Disks and ledger are empty, and discarding again is no error."""
    recipe = make_recipe()
    put_base(tmp_path, recipe)
    run, made = make_run(tmp_path, recipe), builder(tmp_path, "tcg")
    with pytest.raises(MachineFailed):
        made.start(run)
    assert made.left(run)
    for _ in range(2):
        made.discard(run, keep_image=False)
        assert made.left(run) == ()
    assert not (run.directory / "builder").exists()


def test_another_process_discards_what_a_killed_one_left(tmp_path: Path, make_recipe) -> None:
    """The ledger is enough: a builder that started nothing itself removes disks and image of the run."""
    recipe = make_recipe()
    run = make_run(tmp_path, recipe)
    image = tmp_path / "images" / "half.raw"
    for kind, name, path in (("disk", "builder", run.directory / "builder"), ("image", "image", image)):
        run.ledger.intend(kind, name, path=str(path))
    (run.directory / "builder").mkdir()
    image.parent.mkdir()
    image.touch()
    builder(tmp_path, "tcg").discard(run, keep_image=False)
    assert not image.exists()
    assert not (run.directory / "builder").exists()
    assert run.ledger.standing == ()


def test_a_machine_whose_keeper_is_killed_is_gone_too(tmp_path: Path) -> None:
    """User-mode Linux has processes that outlive its own: the owner ends them if the keeper cannot."""
    assert prove("uml") is None
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(1024**2)
    with Machine(Hardware(disk=disk, directory=tmp_path / "vm", memory_mib=64), "uml") as machine:
        until(lambda: len(using(disk)) > 2, "it has no helpers")
        parent = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        keepers = [int(pid) for pid in parent if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in keepers:
            os.kill(pid, signal.SIGKILL)
        assert machine.wait(20) == -signal.SIGKILL
    until(lambda: not using(disk), "something of the machine is still there")


def using(path: Path) -> list[str]:
    """Processes with the path on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if str(path).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends, what
        os.sched_yield()
