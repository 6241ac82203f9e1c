"""Programs of the host that virtual machines need, and what to say when one is missing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from images.errors import MachineFailed

SCRATCH_PREFIX = "goldenfleet-scratch-"
"""Of every directory that we make among the host's temporary ones; whoever uses one holds a lock on it."""
_SBIN = ("/usr/sbin", "/sbin")


def find(program: str) -> str:
    """Its path. Raises MachineFailed with the line that installs it."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))
    if found is None:
        raise MachineFailed(f"{program} is not installed", how_to_install())
    return found


def how_to_install() -> str:
    return f"on Debian: apt-get install --no-install-recommends {' '.join(packages())}"


def packages() -> tuple[str, ...]:
    """Debian packages that baking on this machine takes."""
    listed = resources.files("images.machines").joinpath("packages.txt").read_text(encoding="utf-8")
    return tuple(listed.split())


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A directory for as long as it is needed. A sweep knows whose user was killed: nobody has its lock."""
    with TemporaryDirectory(prefix=f"{SCRATCH_PREFIX}{what}-") as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def run(
    *argv: str | Path,
    timeout_s: float = 600,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Standard output of a program of ours. Raises MachineFailed with what it said."""
    command = [find(str(argv[0])), *map(str, argv[1:])]
    told = None if environment is None else {**os.environ, **environment}
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=timeout_s, check=False, env=told
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise MachineFailed(f"{argv[0]}: {exc}") from exc
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-2000:]
        raise MachineFailed(f"{argv[0]} ended with {done.returncode}: {said}")
    return done.stdout
