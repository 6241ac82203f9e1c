"""A bake that ends at every call of AWS, before it goes out and after it was answered.

`python -m tests.images.aws.crashes HOW OUT` bakes once. At every such moment the process forks, with AWS's
state in its memory: the copy ends its bake there and then, and writes down what remains afterwards. HOW:
`killed` swept by the same machine, `killed-elsewhere` by one that has no ledger, `interrupted` by Ctrl-C,
`interrupted-twice` by another Ctrl-C at every call of the clean-up.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from images.builders.ec2_settings import Ec2Settings
from images.errors import LeftBehind
from images.run import LASTS_S
from tests.images.aws.layer_parts import Lags
from tests.images.aws.world import OTHER_REGION, REGION, World, hooked, in_process, leftovers, weighty

_AT_ONCE = 3
# Shorter than AWS's, in fake seconds: every question asked meanwhile is another moment.
_LAGS = Lags(hidden=12, starting=6, stopping=6, terminating=6, imaging=30, copying=30)
SETTINGS = Ec2Settings.model_validate(
    {
        "region": REGION,
        "our_address": "203.0.113.7",
        "kms_key_id": "alias/images",
        "copies": [{"region": OTHER_REGION, "kms_key_id": "alias/images"}],
        "deprecate_after_days": 90,
    }
)


class Forks:
    """Copies of this process that end by themselves, a few at a time. Each gets its own state directory."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.running = 0
        self.moment = ""
        """In a copy: where its bake has ended."""

    def fork(self, moment: str) -> bool:
        """True in the copy. Here: once there is room for it."""
        if os.fork() == 0:
            self.moment = f"{self.moment}, then {moment}" if self.moment else moment
            self.running = 0
            own = Path(tempfile.mkdtemp(dir=self.out.parent))
            shutil.copytree(".", own, dirs_exist_ok=True)
            os.chdir(own)
            return True
        self.running += 1
        while self.running > _AT_ONCE:
            self.wait()
        return False

    def wait(self) -> None:
        _, status = os.wait()
        self.running -= 1
        if status != 0:
            raise SystemExit(f"a copy ended with status {status}")

    def finish(self, remains: list[str]) -> NoReturn:
        """In the copy: write down what remains, and end without anything else being run."""
        while self.running:
            self.wait()
        with self.out.open("a") as file:
            file.write(json.dumps({"moment": self.moment, "remains": remains}) + "\n")
        os._exit(0)


def remains(world: World) -> list[str]:
    """What is there beyond a published image, if there is one."""
    found = set(leftovers(world))
    pointers = world.channels().list()
    for pointer in pointers:
        region = world.aws()
        image = region.ec2.describe_images(ImageIds=[pointer.image_id])["Images"][0]
        copies = world.aws(OTHER_REGION).ec2.describe_images(Owners=["self"])["Images"]
        for published in (image, *copies):
            found -= {
                published["ImageId"],
                *(m["Ebs"]["SnapshotId"] for m in published["BlockDeviceMappings"]),
            }
        name = f"/goldenfleet/lab/image/{pointer.recipe}/{pointer.channel}"
        found -= {name, f"/goldenfleet/lab/manifest/{pointer.image_id}/0"}
        found -= {f"/goldenfleet/lab/launch/{pointer.image_id}/{part}" for part in ("volumes", "boot")}
    return sorted(found)


def swept(world: World, runs: Path) -> list[str]:
    sweep = world.sweep(runs)
    failures = sweep.apply(sweep.plan())
    return [*map(str, failures), *remains(world)]


def killed(world: World, forks: Forks) -> None:
    def moment(name: str) -> None:
        if not forks.moment and forks.fork(name):
            forks.finish(swept(world, world.runs))

    with hooked(*_before_and_after(moment)):
        world.bake(wanted=weighty())


def killed_elsewhere(world: World, forks: Forks) -> None:
    def moment(name: str) -> None:
        # Without a ledger, only what AWS has makes a difference.
        if name.startswith("after") and not forks.moment and forks.fork(name):
            world.clock.sleep(LASTS_S)
            forks.finish(swept(world, Path("nothing-here")))

    with hooked(*_before_and_after(moment)):
        world.bake(wanted=weighty())


def interrupted(world: World, forks: Forks) -> None:
    def moment(name: str) -> None:
        if not forks.moment and forks.fork(name):
            raise KeyboardInterrupt

    try:
        with hooked(*_before_and_after(moment)):
            world.bake(wanted=weighty())
    except KeyboardInterrupt:
        forks.finish(remains(world))


def interrupted_twice(world: World, forks: Forks) -> None:
    def moment(name: str) -> None:
        first_ones = ("after 1 CreateImage", "after 3 PutParameter")
        if forks.moment.count("then") == 1:
            return
        if (forks.moment or name in first_ones) and forks.fork(name):
            raise KeyboardInterrupt

    try:
        with hooked(*_before_and_after(moment)):
            world.bake(wanted=weighty())
    except LeftBehind as error:
        told = [] if "what is left:" in error.message else [f"not told what is left: {error}"]
        forks.finish([*told, *swept(world, world.runs)])
    except KeyboardInterrupt:
        forks.finish(remains(world))


WAYS: dict[str, Callable[[World, Forks], None]] = {
    "killed": killed,
    "killed-elsewhere": killed_elsewhere,
    "interrupted": interrupted,
    "interrupted-twice": interrupted_twice,
}


def _before_and_after(moment: Callable[[str], None]) -> tuple[Callable[[str], None], Callable[[str], None]]:
    counts: dict[str, int] = {}

    def before(operation: str) -> None:
        counts[operation] = counts.get(operation, 0) + 1
        moment(f"before {counts[operation]} {operation}")

    def after(operation: str) -> None:
        # Nothing has changed after a question: the next moment is the same.
        if not operation.startswith(("Describe", "Get")):
            moment(f"after {counts[operation]} {operation}")

    return before, after


def main(how: str, out: Path) -> None:
    with in_process(Path(), _LAGS) as world:
        world.settings = SETTINGS
        swept(world, world.runs)  # makes every client once, not in every copy
        gc.freeze()
        gc.disable()  # a copy lives too short to collect, and each would copy the memory it looks at
        forks = Forks(out)
        try:
            WAYS[how](world, forks)
        except BaseException:
            if forks.moment:
                forks.finish([traceback.format_exc()])
            raise
        if forks.moment:
            forks.finish(["the bake went on"])
        while forks.running:
            forks.wait()


if __name__ == "__main__":
    place = Path(sys.argv[2]).resolve()
    start = place.parent / "state"
    start.mkdir()
    os.chdir(start)
    main(sys.argv[1], place)
