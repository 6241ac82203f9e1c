"""A run: one bake of one recipe. Its id is on all that it makes, its directory holds all that it knows."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from images.clock import Clock
from images.errors import RunError
from images.ledger import Ledger
from images.recipe import Recipe, digest

RUN_TAG = "goldenfleet:run"
IMAGE_TAG = "goldenfleet:image"
STACK_TAG = "goldenfleet:stack"
PART_TAG = "goldenfleet:part"
DEADLINE_TAG = "goldenfleet:deadline"
PUBLISHED_TAG = "goldenfleet:published"
RECIPE_TAG = "goldenfleet:recipe-digest"

KEY, HOST_KEY = "key", "host-key"
"""Files of the run directory: what we log in with, and what the machine proves itself by."""

DEFAULT_STATE = Path("~/.local/state/goldenfleet")
PARKED, PUBLISHED, MADE, SWEPT = "parked", "was published", "has made its image", "was swept"
"""How runs end; a parked one waits to be resumed."""
LASTS_S = 12 * 3600.0
"""A run that is older is dead, whoever asks: twice a build, and the longest wait for an image."""

_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Run:
    id: str
    recipe: Recipe
    stack: str
    directory: Path
    ledger: Ledger
    clock: Clock
    deadline: float
    """Seconds since the epoch; then the run counts as dead on machines that cannot see its lock."""

    @property
    def builder(self) -> str:
        """`ec2` or `local`: whose resources stand in the ledger. Empty if it was killed before it began."""
        begun = next((entry for entry in self.ledger.entries if entry.event == "begun"), None)
        return str(begun.details["builder"]) if begun is not None else ""

    def tags(self, part: str) -> dict[str, str]:
        """What every resource of the run carries from its first moment; `part` says which one it is."""
        return {
            "Name": f"goldenfleet-{self.recipe.name}-{part}",
            RUN_TAG: self.id,
            IMAGE_TAG: self.recipe.name,
            STACK_TAG: self.stack,
            PART_TAG: part,
            DEADLINE_TAG: str(int(self.deadline)),
            RECIPE_TAG: digest(self.recipe)[:32],
        }

    def write(self, name: str, content: bytes) -> Path:
        """A file of the run that only its owner may read, on the disk when this returns."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        return path


def new_run(
    runs: Path, recipe: Recipe, stack: str, clock: Clock, rng: random.Random, builder: str = "ec2"
) -> Run:
    """Make the run's directory with its ledger. Raises RunError."""
    now = clock.now()
    run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{rng.randbytes(3).hex()}"
    directory = runs / run_id
    try:
        directory.mkdir(parents=True, mode=0o700)
    except OSError as exc:
        raise RunError(
            f"cannot make the run directory {directory}: {exc.strerror}", "choose another --state"
        ) from exc
    run = Run(run_id, recipe, stack, directory, _ledger(directory, clock), clock, now + LASTS_S)
    dumped = recipe.model_dump(mode="json", exclude_defaults=True)
    saved = {"recipe": dumped, "directory": str(recipe.directory), "stack": stack, "deadline": run.deadline}
    run.write("run.json", json.dumps(saved, indent=1).encode())
    run.ledger.begun(recipe=recipe.name, digest=digest(recipe), stack=stack, builder=builder)
    return run


def open_run(runs: Path, run_id: str, clock: Clock) -> Run:
    """The run as this machine knows it. Raises RunError."""
    directory = runs / run_id
    path = directory / "run.json"
    if not _RUN_ID.fullmatch(run_id) or not path.is_file():
        raise RunError(f"no run {run_id} under {runs}", "resume where it was started, or name its --state")
    try:
        saved = json.loads(path.read_bytes())
        recipe = Recipe.model_validate({**saved["recipe"], "directory": Path(saved["directory"])})
        stack, deadline = str(saved["stack"]), float(saved["deadline"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as exc:
        raise RunError(f"{path} cannot be read: {exc}", f"sweep it: images sweep --run {run_id}") from exc
    return Run(run_id, recipe, stack, directory, _ledger(directory, clock), clock, deadline)


def forget_keys(run: Run) -> None:
    """Remove the private keys of a run that has no machine any more."""
    for name in (KEY, HOST_KEY):
        (run.directory / name).unlink(missing_ok=True)


def run_ids(runs: Path) -> tuple[str, ...]:
    """Every run that this machine knows, oldest first."""
    if not runs.is_dir():
        return ()
    return tuple(sorted(path.name for path in runs.iterdir() if _RUN_ID.fullmatch(path.name)))


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Be the one process that works on the run. Raises RunError if another does."""
    with (run.directory / "lock").open("wb") as file:
        if not _locked(file.fileno()):
            raise RunError(f"run {run.id} is being worked on by another process", "wait for it, or end it")
        yield


def is_held(directory: Path) -> bool:
    """Whether a process on this machine works on the run; the kernel lets go when the process dies."""
    try:
        with (directory / "lock").open("rb") as file:
            return not _locked(file.fileno())
    except FileNotFoundError:
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ledger(directory: Path, clock: Clock) -> Ledger:
    return Ledger(directory / "ledger.jsonl", clock.now)
