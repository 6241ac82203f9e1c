"""Rehearsals that are kept on this machine: where their emulated AWS is, for commands to find.

A rehearsal that is kept writes one small file into the user's state folder (XDG base directory
specification: $XDG_STATE_HOME, else ~/.local/state) and removes it at its end. A file whose process is gone,
because it was killed, is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.oncall.errors import Ambiguous, NothingKept

_FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """`time_scale` multiplies AWS's durations; `born` tells a process from a later one with its number."""

    pid: int
    born: str
    stack: str
    region: str
    aws_endpoint: str
    endpoint: str
    """Where clients ask."""
    run_dir: str
    time_scale: float


def born(pid: int) -> str | None:
    """When a process began, in ticks since boot (proc(5), stat's 22nd field); None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name, which may hold spaces and parentheses.
    return stat.rpartition(")")[2].split()[19]


def folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    # "All paths must be absolute"; others are to be ignored.
    home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return home / "goldenfleet" / "rehearsals"


@contextmanager
def told(kept: Kept) -> Iterator[None]:
    """While inside, commands find the rehearsal."""
    path = folder() / f"{kept.pid}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"format": _FORMAT, **asdict(kept)}) + "\n")
    fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def all_kept() -> list[Kept]:
    """Those whose process lives, by its number."""
    found = [kept for path in sorted(folder().glob("*.json")) if (kept := _read(path)) is not None]
    return [kept for kept in found if born(kept.pid) == kept.born]


def find(stack: str | None) -> Kept:
    """The one that is kept, or the one of `stack`. Raises NothingKept and Ambiguous."""
    there = all_kept()
    meant = [kept for kept in there if stack in (None, kept.stack)]
    if not meant:
        others = ", ".join(kept.stack for kept in there)
        raise NothingKept(
            f"no rehearsal of stack {stack} is kept on this machine; there is {others}"
            if others
            else "no rehearsal is kept on this machine",
            "Start one: goldenfleet rehearse --interrupt none --keep",
        )
    if len(meant) > 1:
        listed = "\n".join(f"  {kept.stack}  process {kept.pid}  logs in {kept.run_dir}" for kept in meant)
        raise Ambiguous(f"several rehearsals are kept:\n{listed}", "Name one by --stack, or end the others.")
    return meant[0]


def _read(path: Path) -> Kept | None:
    """None for a file that goes just now, or that another release wrote."""
    try:
        said = json.loads(path.read_text())
        if said.pop("format") != _FORMAT:
            return None
        return Kept(**said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
