"""From launch to ready: the golden image, against its bare base that installs the same at first boot.

Both are virtual machines of this host, on overlays, in turns, so that a busy minute is unfair to both. The
bare one runs the very steps of the bake from its user data, with its containers and weights on a disk beside
it: no download of them is held against it, only of packages.
"""

from __future__ import annotations

import base64
import json
import shlex
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from images.base.build import base_disk
from images.builders.local import LocalSettings, suite_of
from images.builders.local_materials import MaterialsDisk, copied, materials_disk
from images.builders.local_seeds import node_seed
from images.checks import wait_ready
from images.errors import ImagesError, MachineFailed
from images.machines.choose import choose_here
from images.machines.hardware import Accelerator, Forward, Hardware
from images.machines.machine import Machine
from images.machines.network import free_port
from images.machines.seed import Seed, write_seed
from images.machines.tools import scratch
from images.materials import complete
from images.recipe import Recipe, load
from images.run import DEFAULT_STATE
from images.steps import Action, Facts, MachineQuirks, Materials, NamedStep, Upload
from images.steps.order import provision

_PORT = 8080
_STACK = "bench"


@dataclass(frozen=True)
class Result:
    accelerator: str
    golden_s: tuple[float, ...]
    bare_s: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times longer the bare base takes, by medians."""
        return statistics.median(self.bare_s) / statistics.median(self.golden_s)

    def __str__(self) -> str:
        golden, bare = statistics.median(self.golden_s), statistics.median(self.bare_s)
        return (
            f"launch to ready on {self.accelerator}, medians of {len(self.golden_s)}: "
            f"golden {golden:.1f} s, bare {bare:.1f} s: {self.ratio:.1f} times as fast"
        )


class Bench:
    """Raises CheckFailed when a machine is not ready in time, and MachineFailed when it dies."""

    def __init__(self, recipe: Recipe, image: Path, state: Path, accelerator: Accelerator) -> None:
        self._recipe = recipe
        self._image = image
        self._accelerator: Accelerator = accelerator
        self._base = base_disk(suite_of(recipe), recipe.disk.root_gib, state / "cache").disk

    def run(self, times: int, limit_s: float) -> Result:
        ends = time.monotonic() + limit_s
        golden, bare = [], []
        for _ in range(times):
            golden.append(self._golden(ends - time.monotonic()))
            bare.append(self._bare(ends - time.monotonic()))
            click.echo(f"golden {golden[-1]:.1f} s, bare {bare[-1]:.1f} s", err=True)
        return Result(self._accelerator, tuple(golden), tuple(bare))

    def _golden(self, limit_s: float) -> float:
        with scratch("bench") as directory:
            seed = node_seed("golden", self._recipe.role, _STACK)
            return self._ready_after(directory, self._image, seed, (), limit_s)

    def _bare(self, limit_s: float) -> float:
        with scratch("bench") as directory:
            disk = materials_disk(self._recipe, directory / "materials.iso")
            node = node_seed("bare", self._recipe.role, _STACK)
            script = first_boot_script(self._steps(), disk, node.user_data)
            seed = Seed(node.instance_id, script, node.vendor_data)
            return self._ready_after(directory, self._base, seed, (disk.path,), limit_s)

    def _steps(self) -> tuple[NamedStep, ...]:
        facts = Facts("debian", "", suite_of(self._recipe), "x86_64", "root", cloud_init=False)
        quirks = MachineQuirks(iptables_legacy=self._accelerator == "uml")
        return provision(
            self._recipe, facts, complete(Materials(run_id="bench", quirks=quirks), self._recipe, None)
        )

    def _ready_after(
        self, directory: Path, disk: Path, seed: Seed, more: tuple[Path, ...], limit_s: float
    ) -> float:
        write_seed(seed, directory / "seed.iso")
        port = free_port()
        hardware = Hardware(
            disk=disk,
            directory=directory,
            overlay=True,
            read_only_disks=(directory / "seed.iso", *more),
            forwards=(Forward(port, _PORT),),
            memory_mib=LocalSettings().builder_memory_mib,
        )
        started = time.monotonic()
        with Machine(hardware, self._accelerator) as machine:
            try:
                wait_ready(f"http://127.0.0.1:{port}", deadline_s=limit_s)
            except ImagesError as exc:
                raise MachineFailed(exc.message, machine.last_words()) from exc
            return time.monotonic() - started


def first_boot_script(steps: Iterable[NamedStep], disk: MaterialsDisk, then: str) -> str:
    """The steps as a shell script of root's, that ends as user data does."""
    lines = [_line(action, disk) for step in steps for action in step.actions]
    return "\n".join(["#!/bin/sh", "set -e", *lines, *then.splitlines()[1:]]) + "\n"


def _line(action: Action, disk: MaterialsDisk) -> str:
    if isinstance(action, Upload):
        return f"sh -c {shlex.quote(copied(action, disk.index[action.source.resolve()]))}"
    content = base64.b64encode(action.stdin or b"").decode()
    return f"base64 -d <<'END' | sh -c {shlex.quote(action.line)}\n{content}\nEND"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--runs", default=3, show_default=True, type=click.IntRange(min=1), help="Of each kind.")
@click.option("--limit-s", default=2400.0, show_default=True, help="For all runs together.")
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_STATE, show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Figures for a program to read.")
def main(image: Path, recipe: Path, runs: int, limit_s: float, state: Path, as_json: bool) -> None:
    """Compare IMAGE, baked here from the recipe, with its bare base that installs the same at first boot."""
    state = state.expanduser()
    try:
        accelerator = choose_here(state / "cache").accelerator
        result = Bench(load(recipe), image.resolve(), state, accelerator).run(runs, limit_s)
    except ImagesError as exc:
        click.echo(str(exc), err=True)
        sys.exit(1)
    click.echo(json.dumps({**asdict(result), "ratio": result.ratio}) if as_json else str(result))


if __name__ == "__main__":
    main(prog_name="scripts/bench-bake")
