"""`python -m tests.images.local.victim STEP WHEN STATE`: a local bake, killed at that step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from images.bake import Inspection, Options, Progress, bake
from images.recipe import load
from tests.images.local import sleeping


def main(step: str, when: str, state: Path) -> None:
    def die(progress: Progress) -> None:
        if (progress.step, progress.state) == (step, when):
            os.kill(os.getpid(), signal.SIGKILL)

    recipe = load(state / "sleeping.toml")
    options = Options(on_step=die, inspect=lambda *_: Inspection((), 1.0))
    bake(recipe, sleeping.builder(state, recipe), runs=state / "runs", stack="lab", options=options)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
