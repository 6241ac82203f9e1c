"""Local bakes that are stopped or killed. Their machines are real, and sleep."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.bake import Inspection, Options, inspect_node, resume
from images.builders import Image
from images.clock import SystemClock
from images.errors import MachineFailed, RunError
from images.machines import disk
from images.recipe import Recipe, load
from images.run import Run, new_run, open_run, run_ids
from tests.images.local import sleeping
from tests.images.local.sleeping import ROOT, machines_in

# A shell's background jobs, and so their tests, ignore SIGINT; a person's command does not.
HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
GOLDENFLEET = [sys.executable, "-c", f"{HEARS}; from images.cli import images; images()"]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    found = load(sleeping.write_recipe(tmp_path))
    sleeping.write_state(tmp_path, found)
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < ends, what
        os.sched_yield()


def only_run(state: Path) -> Run:
    (run_id,) = run_ids(state / "runs")
    return open_run(state / "runs", run_id, SystemClock())


def command(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GOLDENFLEET, *arguments, "--state", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.fixture
def baking(tmp_path: Path, recipe: Recipe) -> Iterator[subprocess.Popen[str]]:
    """The command line, as it waits for its machine to let it in."""
    arguments = ["bake", str(tmp_path / "sleeping.toml"), "--on", "local", "--state", str(tmp_path)]
    process = subprocess.Popen([*GOLDENFLEET, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until(lambda: process.poll() is not None or bool(machines_in(tmp_path)), "no machine was started")
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_bake_that_is_stopped_cleans_up(
    baking: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM end the machine, remove its disk and close the ledger, and say so by the code."""
    baking.send_signal(number)
    _, said = baking.communicate(timeout=180)
    assert baking.returncode == code, said
    assert machines_in(tmp_path) == []
    run = only_run(tmp_path)
    assert (run.ledger.outcome, run.ledger.standing) == ("failed", ())
    assert not (run.directory / "builder").exists()
    assert "removed" in said


def test_what_a_killed_bake_left_is_swept(baking: subprocess.Popen[str], tmp_path: Path) -> None:
    """A sweep leaves a run alone that goes on; killed, its machine ends, and its disk is told and removed."""
    going = command("sweep", "--on", "local", "--json", state=tmp_path)
    assert [verdict["reason"] for verdict in json.loads(going.stdout) if verdict["keep"]]
    baking.kill()
    baking.communicate()
    until(lambda: machines_in(tmp_path) == [], "its machine outlived it")
    run = only_run(tmp_path)
    told = command("sweep", "--on", "local", state=tmp_path)
    assert f"delete disk {run.directory}/builder of run {run.id}: its run was killed" in told.stdout
    assert (run.directory / "builder/disk.raw").exists()
    applied = command("sweep", "--on", "local", "--apply", "--yes", state=tmp_path)
    assert applied.returncode == 0, applied.stderr
    assert not (run.directory / "builder").exists()
    assert "0 to delete" in command("sweep", "--on", "local", state=tmp_path).stderr
    with pytest.raises(RunError, match="was swept"):
        resume(run.id, sleeping.builder(tmp_path, run.recipe), runs=tmp_path / "runs", options=Options())


def test_a_node_that_dies_is_not_waited_for(tmp_path: Path, recipe: Recipe) -> None:
    """Half an hour is for a node that boots slowly: one that is gone is noticed at once."""
    run = new_run(tmp_path / "runs", recipe, "lab", SystemClock(), random.Random(1), "local")
    builder = sleeping.builder(tmp_path, recipe)
    image = tmp_path / "image.raw"
    disk.copy_sparse(next((tmp_path / "cache/bases").glob("*/disk.raw")), image)
    booted = builder.boot(run, Image(str(image), "x"))
    until(lambda: bool(machines_in(tmp_path)), "it did not start")
    for pid in machines_in(tmp_path):
        os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(MachineFailed, match="gone"):
        inspect_node(recipe, booted)
    assert time.monotonic() - started < 30
    builder.discard(run, keep_image=False)


@pytest.mark.parametrize(
    ("step", "when"),
    [
        ("install Docker", "started"),
        ("cut access", "started"),
        ("make the image", "started"),
        ("make the image", "done"),
        ("put the checks to it", "done"),
        ("remove the machines", "started"),
    ],
)
def test_a_killed_bake_is_resumed_to_one_image(tmp_path: Path, recipe: Recipe, step: str, when: str) -> None:
    """Wherever it was killed: what was done stays done, and one image comes of it, and nothing else."""
    victim = [sys.executable, "-m", "tests.images.local.victim", step, when, str(tmp_path)]
    killed = subprocess.run(victim, cwd=ROOT, check=False, capture_output=True, text=True, timeout=180)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    until(lambda: machines_in(tmp_path) == [], "its machine outlived it")
    run = only_run(tmp_path)
    seen: list[str] = []
    manifest = resume(
        run.id,
        sleeping.builder(tmp_path, recipe),
        runs=tmp_path / "runs",
        options=Options(
            inspect=lambda *_: Inspection((), 1.0), on_step=lambda progress: seen.append(progress.step)
        ),
    )
    assert manifest.image is not None
    assert [str(path) for path in (tmp_path / "images").iterdir()] == [manifest.image.id]
    assert manifest.image.digest == disk.digest(Path(manifest.image.id))
    assert ("install Docker" in seen) == (step == "install Docker")
    assert [resource.kind for resource in only_run(tmp_path).ledger.standing] == ["image"]
    assert machines_in(tmp_path) == []
