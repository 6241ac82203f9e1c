"""`python -m tests.images.aws.victim HOW OPERATIONS STATE`: a bake, stopped once AWS answered one of them.

HOW `killed`: by itself. `told`: it says each OPERATION once as it is answered and waits to be stopped there,
with what the command line does around a bake.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from images.terminal import stopped_by_sigterm, told_plainly
from tests.images.aws.layer import Layer
from tests.images.aws.layer_parts import FakeClock
from tests.images.aws.world import World, hooked, weighty


def killed(operations: list[str]) -> Callable[[str], None]:
    def after(name: str) -> None:
        if name in operations:
            os.kill(os.getpid(), signal.SIGKILL)

    return after


def told(operations: list[str]) -> Callable[[str], None]:
    def after(name: str) -> None:
        if name in operations:
            operations.remove(name)
            print(name, flush=True)  # noqa: T201  to the test
            sys.stdin.readline()

    return after


def main(how: str, operations: str, state: Path) -> None:
    after = {"killed": killed, "told": told}[how](operations.split(","))
    # Its layer is not installed: the server that it talks to has its own. Only the clock is used.
    with told_plainly(), stopped_by_sigterm(), hooked(lambda _: None, after):
        World(Layer(FakeClock()), state).bake(wanted=weighty())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
