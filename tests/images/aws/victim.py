"""`python -m tests.images.aws.victim OPERATION STATE` bakes, and is killed once AWS answered OPERATION."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.images.aws.layer import Layer
from tests.images.aws.layer_parts import FakeClock
from tests.images.aws.world import World, hooked


def main(operation: str, state: Path) -> None:
    def after(name: str) -> None:
        if name == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    # Its layer is not installed: the server that it talks to has its own. Only the clock is used.
    with hooked(lambda _: None, after):
        World(Layer(FakeClock()), state).bake()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
