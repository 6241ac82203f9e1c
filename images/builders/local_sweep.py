"""What dead local runs left on this host: processes, disks, halves of images and bases, scratch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from images.builders.local import LocalBuilder
from images.clock import Clock
from images.errors import ImagesError, MachineFailed, RunError
from images.machines.tools import SCRATCH_PREFIX
from images.machines.tools import run as run_tool
from images.run import (
    MADE,
    PARKED,
    SWEPT,
    Run,
    forget_keys,
    held,
    is_held,
    open_run,
    run_ids,
)

Kind = Literal["process", "disk", "image", "base", "scratch"]
_PROGRAMS = frozenset({"linux.uml", "qemu-system-x86_64"})
# Between being made and being locked a directory looks abandoned for a moment.
_SETTLED_S = 60.0


@dataclass(frozen=True)
class Leftover:
    kind: Kind
    name: str
    """A path, or a process id."""
    run: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' of run {self.run}' if self.run else ''}"


@dataclass(frozen=True)
class LocalVerdict:
    resource: Leftover
    keep: bool
    reason: str
    remove: Callable[[], None] = field(compare=False, repr=False, default=lambda: None)

    def __str__(self) -> str:
        return f"{'keep' if self.keep else 'delete'} {self.resource}: {self.reason}"


def judge(outcome: str, *, is_held: bool, is_named: bool, is_past_deadline: bool) -> tuple[bool, str]:
    """Whether what a run has made stays, and why."""
    if is_held:
        return True, "its run is going on"
    if is_named:
        return False, "its run was named"
    if outcome == MADE:
        return True, "its run made it; name the run to remove it"
    if outcome == PARKED and not is_past_deadline:
        return True, "its run waits to be resumed; name the run to remove it"
    if outcome == PARKED:
        return False, "its run waited to be resumed until it was past its deadline"
    return False, f"its run {outcome or 'was killed'}"


class LocalSweep:
    """`state` is the directory of LocalBuilder; a named run is taken for dead, whatever it waits for."""

    def __init__(
        self,
        state: Path,
        clock: Clock,
        *,
        named: frozenset[str] = frozenset(),
        max_age_s: float,
        scratch: Path | None = None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._named = named
        self._max_age_s = max_age_s
        self._scratch = scratch or Path(tempfile.gettempdir())

    def plan(self) -> tuple[LocalVerdict, ...]:
        """What would be removed and why; removes nothing. Raises RunError for a named run that goes on."""
        runs = self._runs()
        going = sorted(run.id for run in runs if run.id in self._named and is_held(run.directory))
        if going:
            raise RunError(f"run {going[0]} is going on", "interrupt it: it cleans up by itself")
        of_runs = [verdict for run in runs for verdict in self._of_run(run)]
        return (*of_runs, *self._bases(), *self._scratches())

    def apply(self, verdicts: Sequence[LocalVerdict]) -> tuple[str, ...]:
        """Remove what the verdicts say. Returns what could not be removed, one line each, with the reason."""
        failures = []
        for verdict in verdicts:
            try:
                if not verdict.keep:
                    verdict.remove()
            except (OSError, ImagesError) as error:
                failures.append(f"cannot delete {verdict.resource}: {error}")
        return tuple(failures)

    def _runs(self) -> list[Run]:
        known = []
        for run_id in run_ids(self._state / "runs"):
            # One that was killed before it had made anything says nothing of itself yet.
            with contextlib.suppress(RunError):
                known.append(open_run(self._state / "runs", run_id, self._clock))
        return [run for run in known if run.builder == "local"]

    def _of_run(self, run: Run) -> Iterator[LocalVerdict]:
        keep, reason = judge(
            run.ledger.outcome,
            is_held=is_held(run.directory),
            is_named=run.id in self._named,
            is_past_deadline=self._clock.now() > run.deadline,
        )
        for pid in _processes(run.directory):
            yield LocalVerdict(Leftover("process", str(pid), run.id), keep, reason, partial(_kill, pid, run))
        for resource in run.ledger.standing:
            kind: Kind = "image" if resource.kind == "image" else "disk"
            path = str(resource.details.get("path") or resource.id)
            yield LocalVerdict(Leftover(kind, path, run.id), keep, reason, partial(self._discard, run.id))

    def _discard(self, run_id: str) -> None:
        """Does nothing to a run that has nothing left."""
        run = open_run(self._state / "runs", run_id, self._clock)
        if not run.ledger.standing:
            return
        with held(run):
            LocalBuilder(self._state).discard(run, keep_image=False)
            forget_keys(run)
            run.ledger.ended(SWEPT)

    def _bases(self) -> Iterator[LocalVerdict]:
        folder = self._state / "cache/bases"
        if not folder.is_dir():
            return
        making = not _unlocked(folder / "lock")
        for base in sorted(path for path in folder.iterdir() if path.is_dir()):
            age_s = self._clock.now() - base.stat().st_mtime
            if base.suffix == ".part":
                keep, reason = making, "it is being made" if making else "it was never finished"
            else:
                keep, reason = age_s <= self._max_age_s, f"last used {age_s / 86_400:.0f} days ago"
            yield LocalVerdict(Leftover("base", str(base)), keep, reason, partial(shutil.rmtree, base))

    def _scratches(self) -> Iterator[LocalVerdict]:
        for found in sorted(self._scratch.glob(f"{SCRATCH_PREFIX}*")):
            state = found.stat()
            abandoned = _unlocked(found) and self._clock.now() - state.st_mtime > _SETTLED_S
            if state.st_uid == os.geteuid() and abandoned:
                yield LocalVerdict(
                    Leftover("scratch", str(found)),
                    False,
                    "nobody uses it",
                    partial(_remove_scratch, found),
                )


def _processes(directory: Path) -> list[int]:
    """Of machines whose disks are in this directory: a pager that shows a log there is none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (process / "cmdline").read_bytes().split(b"\0")
            ours = Path(os.fsdecode(program)).name in _PROGRAMS
            if ours and any(os.fsencode(f"{directory}/") in argument for argument in arguments):
                found.append(int(process.name))
    return sorted(found)


def _kill(pid: int, run: Run) -> None:
    """Unless it is another process by now."""
    if pid in _processes(run.directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _unlocked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove_scratch(path: Path) -> None:
    """A disk may still be mounted there: what is below a mount is never removed."""
    if path.is_mount():
        run_tool("umount", path)
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    if f" {path}" in mounts:
        raise MachineFailed("something is mounted there", "unmount it")
    shutil.rmtree(path)
