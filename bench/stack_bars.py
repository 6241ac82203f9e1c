"""How long a stack takes: to preview, to come up on the emulated cloud, to answer with 200 nodes in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.stack_calls import Askers, Timings
from bench.stack_farm import Farm
from fleet.rehearsal.cloud import Cloud
from fleet.rehearsal.engine import PulumiEngine
from fleet.rehearsal.resources import Aws
from fleet.stack.settings import load_settings

PROJECT = Path(__file__).parents[1]
STACK = "rehearsal"
PREVIEW_BAR, UP_BAR, CALL_BAR = 10.0, 15.0, 1.0
_READY_SECONDS = 300.0
_LOOK_SECONDS = 0.2


def three_tiers(sizes: Mapping[str, int], desired: int | None = None) -> dict[str, str]:
    """The rehearsal stack with a second model tier and room for `sizes`, its own unless told."""
    tiers = [tier.model_dump(mode="json", by_alias=True) for tier in load_settings(PROJECT, STACK).tiers]
    second = {**tiers[1], "name": "second", "model": "goldenfleet-second"}
    for tier in (made := [*tiers, second]):
        size = sizes[tier["name"]]
        tier["capacity"] = {"min": 1, "desired": desired or size, "max": size + size // 4 + 1}
    return {"goldenfleet:tiers": json.dumps(made)}


@contextmanager
def emulated(farm: Farm) -> Iterator[Cloud]:
    with Cloud(time_scale=0.1, seed=1, listener=farm) as cloud:
        for tier in load_settings(PROJECT, STACK).tiers:
            cloud.register_image(tier.recipe, STACK, tier.channel)
        yield cloud


def preview_of_prod() -> dict[str, Any]:
    """The whole command, interpreter and emulated account included, as a person waits for it."""
    start = time.monotonic()
    words = ["-c", "from fleet.cli import main; main()", "preview", "--stack", "prod", "--json"]
    before = os.times()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=PROJECT, check=True)
    after, told = os.times(), json.loads(done.stdout)
    seconds = time.monotonic() - start
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "resources": len(told["steps"])}


def up_of_three_tiers() -> dict[str, Any]:
    with Farm() as farm, emulated(farm) as cloud, TemporaryDirectory() as folder:
        config = three_tiers({"gateway": 2, "model": 2, "second": 2})
        state = Path(folder) / "state.json"
        engine = PulumiEngine(
            PROJECT, STACK, endpoint_url=cloud.endpoint_url, state_file=state, config=config
        )
        up, destroyed = engine.up(), engine.destroy()
    return {
        "seconds": round(up.seconds, 2),
        "resources": len(up.steps),
        "destroy": round(destroyed.seconds, 2),
    }


def calls_at(nodes: int) -> dict[str, Any]:
    """A fleet of `nodes` comes, loses a tenth at once, grows and shrinks, while others ask about it."""
    sizes = {"gateway": nodes // 10, "model": nodes // 2, "second": nodes - nodes // 10 - nodes // 2}
    timings = Timings()
    with Farm() as farm, emulated(farm) as cloud, TemporaryDirectory() as folder:
        aws, state = Aws(cloud.endpoint_url, "us-east-1"), Path(folder) / "state.json"
        config = three_tiers(sizes, desired=1)
        engine = PulumiEngine(
            PROJECT, STACK, endpoint_url=cloud.endpoint_url, state_file=state, config=config
        )
        outputs = engine.up().outputs
        with Askers(aws, timings, outputs):
            start = time.monotonic()
            _resize(aws, timings, outputs, sizes, 1.0)
            _wait(lambda: _serving(cloud, outputs) >= nodes, f"{nodes} nodes to serve")
            served = time.monotonic() - start
            _storm(cloud, nodes // 10)
            _resize(aws, timings, outputs, sizes, 1.2)
            _wait(lambda: _serving(cloud, outputs) >= nodes * 1.15, "the fleet to grow")
            _resize(aws, timings, outputs, sizes, 0.5)
            _wait(lambda: len(cloud.instances()) <= nodes * 0.6, "the fleet to shrink")
        engine.destroy()
    return {"nodes": nodes, "served_after": round(served, 1), **timings.figures()}


def _serving(cloud: Cloud, outputs: Mapping[str, Any]) -> int:
    groups = [tier["targetGroupArn"] for tier in outputs["tiers"].values()]
    return sum(target.state == "healthy" for arn in groups for target in cloud.targets(arn))


def _storm(cloud: Cloud, count: int) -> None:
    spot = [each for each in cloud.instances() if each.purchase_option == "spot"]
    for instance in spot[:count]:
        cloud.interrupt(instance.instance_id)


def _resize(
    aws: Aws, timings: Timings, outputs: Mapping[str, Any], sizes: Mapping[str, int], factor: float
) -> None:
    operation = "autoscaling.SetDesiredCapacity"
    for name, tier in outputs["tiers"].items():
        group, desired = tier["autoScalingGroup"], int(sizes[name] * factor)
        request = {"AutoScalingGroupName": group, "DesiredCapacity": desired}
        timings.timed(operation, partial(aws.call, operation, **request))


def _wait(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise click.ClickException(f"waited {_READY_SECONDS:.0f} s in vain for {what}")
        time.sleep(_LOOK_SECONDS)


@click.command()
@click.option("--nodes", default=200, show_default=True, type=click.IntRange(20, 1000))
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def main(nodes: int, as_json: bool) -> None:
    """Measure a stack on this machine. Exit code 1 where a bar is missed."""
    # What others keep the cores busy with is in every figure here.
    load = os.getloadavg()[0]
    preview, up, calls = preview_of_prod(), up_of_three_tiers(), calls_at(nodes)
    bars = {
        "preview of prod": (preview["seconds"], PREVIEW_BAR),
        "up of 3 tiers": (up["seconds"], UP_BAR),
        f"slowest call at {nodes} nodes": (calls["max"], CALL_BAR),
    }
    missed = [name for name, (seconds, bar) in bars.items() if seconds >= bar]
    if as_json:
        figures = {"preview_of_prod": preview, "up_of_3_tiers": up, "control_plane": calls}
        told = {**figures, "cores": os.cpu_count(), "load": round(load, 1), "missed": missed}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"load before: {load:.1f} on {os.cpu_count()} cores")
        _show(bars, preview, up, calls)
    sys.exit(1 if missed else 0)


def _show(
    bars: Mapping[str, tuple[float, float]],
    preview: Mapping[str, Any],
    up: Mapping[str, Any],
    calls: Mapping[str, Any],
) -> None:
    for name, (seconds, bar) in bars.items():
        click.echo(f"{name:28}{seconds:8.2f} s   below {bar:g} s   {'ok' if seconds < bar else 'MISSED'}")
    click.echo(f"\npreview: {preview['resources']} resources, {preview['cpu_seconds']:.2f} s of a core")
    click.echo(f"up: {up['resources']} resources; destroyed in {up['destroy']:.2f} s")
    told = f"{calls['calls']} calls, p50 {calls['p50'] * 1000:.0f} ms, p99 {calls['p99'] * 1000:.0f} ms"
    click.echo(f"control plane: {told}; all nodes served after {calls['served_after']} s")
    for operation, seconds in calls["max_by_operation"].items():
        click.echo(f"  {operation:44}{seconds * 1000:8.0f} ms at most")


if __name__ == "__main__":
    main()
