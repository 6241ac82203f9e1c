"""`goldenfleet images sweep`: what dead runs left, on EC2 and on this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from images.clock import SystemClock
from images.errors import AwsUnreachable
from images.terminal import ERROR, JSON_OPTION, STATE_OPTION, aws, confirm, told_plainly

if TYPE_CHECKING:
    from images.builders.local_sweep import LocalSweep
    from images.sweep import Sweep


@click.command()
@click.option("--apply", "applied", is_flag=True, help="Remove; without it only tell.")
@click.option(
    "--on",
    type=click.Choice(["ec2", "local"]),
    help="Only there; by default on EC2 and on this machine.",
)
@click.option("--run", "named", multiple=True, metavar="RUN", help="Take this run for dead.")
@click.option(
    "--max-age-days",
    default=30.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Unreferenced images, and base disks, that were used since then stay.",
)
@click.option("--region", "regions", multiple=True, help="Where to look; the first one's channels are read.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@STATE_OPTION
@JSON_OPTION
def sweep(
    applied: bool,
    on: Literal["ec2", "local"] | None,
    named: tuple[str, ...],
    max_age_days: float,
    regions: tuple[str, ...],
    yes: bool,
    state: Path,
    as_json: bool,
) -> None:
    """Find what dead runs left and images that nobody needs; remove them with --apply."""
    with told_plainly():
        age = {"named": frozenset(named), "max_age_s": max_age_days * 86_400}
        here = None if on == "ec2" else _local(state.expanduser(), age)
        there = None if on == "local" else _ec2(regions, state.expanduser(), age)
        found_here = here.plan() if here else ()
        found_there = there.plan() if there else None
        verdicts: list[Any] = [*found_here, *(found_there.verdicts if found_there else ())]
        _say(verdicts, as_json)
        count = sum(not verdict.keep for verdict in verdicts)
        if not applied or not (count or (found_there and found_there.manifests)):
            click.echo(f"{count} to delete{'; --apply deletes' if count else ''}", err=True)
            return
        confirm(f"Delete {count} resources?", yes)
        failures = [*(here.apply(found_here) if here else ())]
        if there is not None and found_there is not None:
            failures += [str(failure) for failure in there.apply(found_there)]
        for failure in failures:
            click.echo(failure, err=True)
    sys.exit(ERROR if failures else 0)


def _local(state: Path, age: dict[str, Any]) -> LocalSweep:
    from images.builders.local_sweep import LocalSweep

    return LocalSweep(state, SystemClock(), **age)


def _ec2(regions: tuple[str, ...], state: Path, age: dict[str, Any]) -> Sweep:
    from images.sweep import Sweep

    try:
        return Sweep([aws(region) for region in regions or (None,)], state / "runs", SystemClock(), **age)
    except AwsUnreachable as error:
        raise AwsUnreachable(error.message, f"{error.hint}, or --on local") from error


def _say(verdicts: list[Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_verdict(verdict) for verdict in verdicts], indent=2))
        return
    for verdict in verdicts:
        click.echo(str(verdict))


def _verdict(verdict: Any) -> dict[str, Any]:
    return {"resource": asdict(verdict.resource), "keep": verdict.keep, "reason": verdict.reason}
