"""What a sweep of this machine takes for left over, and what not."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images.builders.local_sweep import LocalSweep, LocalVerdict, judge
from images.clock import SystemClock
from images.errors import RunError
from images.machines.tools import SCRATCH_PREFIX, scratch
from images.recipe import Recipe
from images.run import MADE, PARKED, SWEPT, Run, held, new_run, open_run


def swept(state: Path, *named: str, age_s: float = 86_400.0) -> LocalSweep:
    return LocalSweep(state, SystemClock(), named=frozenset(named), max_age_s=age_s, scratch=state / "tmp")


def doomed(verdicts: tuple[LocalVerdict, ...]) -> dict[str, str]:
    return {verdict.resource.name: verdict.reason for verdict in verdicts if not verdict.keep}


@pytest.fixture
def run(tmp_path: Path, make_recipe) -> Run:
    """A local run with a disk and an image, of which both are there."""
    recipe: Recipe = make_recipe()
    made = new_run(tmp_path / "runs", recipe, "lab", SystemClock(), random.Random(1), "local")
    folder, image = made.directory / "builder", tmp_path / "images/x.raw"
    for path in (folder, image.parent):
        path.mkdir()
    image.touch()
    made.ledger.intend("disk", "builder", path=str(folder))
    made.ledger.intend("image", "image", path=str(image))
    return made


@pytest.mark.parametrize(
    ("outcome", "facts", "keep"),
    [
        ("", {"is_held": True, "is_named": True}, True),
        (MADE, {}, True),
        (MADE, {"is_past_deadline": True}, True),
        (MADE, {"is_named": True}, False),
        (PARKED, {}, True),
        (PARKED, {"is_past_deadline": True}, False),
        (PARKED, {"is_named": True}, False),
        ("", {}, False),
        ("failed", {}, False),
    ],
)
def test_what_stays(outcome: str, facts: dict[str, bool], keep: bool) -> None:
    """What goes on, made an image or waits is kept, unless it is named or past its deadline."""
    all_facts = {"is_held": False, "is_named": False, "is_past_deadline": False, **facts}
    assert judge(outcome, **all_facts)[0] is keep


def test_a_named_run_that_goes_on_is_refused(tmp_path: Path, run: Run) -> None:
    """Nobody sweeps a run from under the process that works on it."""
    with held(run), pytest.raises(RunError, match="is going on"):
        swept(tmp_path, run.id).plan()


def test_a_dead_run_loses_disk_and_image(tmp_path: Path, run: Run) -> None:
    """Nothing goes before it was said; then both do, at once or in part again, and the ledger knows."""
    sweep = swept(tmp_path)
    plan = sweep.plan()
    assert set(doomed(plan)) == {str(run.directory / "builder"), str(tmp_path / "images/x.raw")}
    assert (run.directory / "builder").exists()
    assert sweep.apply(plan) == ()
    assert not (run.directory / "builder").exists()
    assert not (tmp_path / "images/x.raw").exists()
    after = open_run(tmp_path / "runs", run.id, SystemClock()).ledger
    assert (after.standing, after.outcome) == ((), SWEPT)
    assert sweep.plan() == ()


def test_an_image_that_was_made_stays(tmp_path: Path, run: Run) -> None:
    """A sweep of everything dead does not touch what a bake was for."""
    run.ledger.gone("disk", "builder")
    run.ledger.ended(MADE)
    assert doomed(swept(tmp_path).plan()) == {}
    assert set(doomed(swept(tmp_path, run.id).plan())) == {str(tmp_path / "images/x.raw")}


def test_processes_of_a_dead_run_are_ended(tmp_path: Path, run: Run) -> None:
    """A machine's program that has the run's disk open is killed; a pager that shows its log is not."""
    programs = {name: tmp_path / name for name in ("linux.uml", "less")}
    for program in programs.values():
        program.symlink_to(sys.executable)
    code = ["-c", "import time; time.sleep(600)", f"ubd0={run.directory}/builder/disk.raw"]
    machine, pager = (subprocess.Popen([str(program), *code]) for program in programs.values())
    try:
        sweep = swept(tmp_path)
        plan = sweep.plan()
        assert [found.resource.name for found in plan if found.resource.kind == "process"] == [
            str(machine.pid)
        ]
        assert sweep.apply(plan) == ()
        assert machine.wait(20) == -9
        assert pager.poll() is None
    finally:
        for process in (machine, pager):
            process.kill()
            process.wait()


def test_bases(tmp_path: Path) -> None:
    """Unfinished ones go unless one is being made now, finished ones when nobody used them for long."""
    bases = tmp_path / "cache/bases"
    for name in ("bookworm-new", "bookworm-old", "bookworm-half.part"):
        (bases / name).mkdir(parents=True)
    os.utime(bases / "bookworm-old", (1, 1))
    assert set(doomed(swept(tmp_path).plan())) == {
        str(bases / name) for name in ("bookworm-old", "bookworm-half.part")
    }
    with (bases / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert set(doomed(swept(tmp_path).plan())) == {str(bases / "bookworm-old")}
    sweep = swept(tmp_path)
    assert sweep.apply(sweep.plan()) == ()
    assert {path.name for path in bases.iterdir()} == {"bookworm-new", "lock"}


def test_scratch_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody has locked for a while goes; one in use, a fresh one and others' stay."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    abandoned, fresh, other = (
        temporary / name for name in (f"{SCRATCH_PREFIX}vm-a", f"{SCRATCH_PREFIX}vm-b", "else")
    )
    for path in (abandoned, fresh, other):
        path.mkdir()
        (path / "file").touch()
    long_ago = time.time() - 3600
    for path in (abandoned, other):
        os.utime(path, (long_ago, long_ago))
    with scratch("vm") as used:
        os.utime(used, (long_ago, long_ago))
        sweep = swept(tmp_path)
        assert doomed(sweep.plan()) == {str(abandoned): "nobody uses it"}
        assert sweep.apply(sweep.plan()) == ()
        assert used.exists()
    assert {path.name for path in temporary.iterdir()} == {fresh.name, "else"}


def test_what_cannot_be_removed_is_said(tmp_path: Path, run: Run) -> None:
    """A run that somebody took up between plan and act stays, and is named as a failure."""
    sweep = swept(tmp_path)
    plan = sweep.plan()
    with held(run):
        failures = sweep.apply(plan)
    assert failures
    assert all(run.id in failure for failure in failures)
    assert (run.directory / "builder").exists()
