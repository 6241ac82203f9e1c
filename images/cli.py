"""`goldenfleet images`: plan and bake recipes, move channels, sweep.

Results go to stdout, the rest to stderr.
"""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from images import channel_commands
from images.clock import SystemClock
from images.errors import ImagesError, RecipeError
from images.terminal import (
    ERROR,
    JSON_OPTION,
    REGION_OPTION,
    SETTINGS_OPTION,
    STACK_OPTION,
    STATE_OPTION,
    aws,
    confirm,
    environment_region,
    stopped_by_sigterm,
    told_plainly,
)

if TYPE_CHECKING:
    from images.bake import Options, Progress, Publisher
    from images.builders import Builder
    from images.builders.ec2_settings import Ec2Settings
    from images.plan import Where
    from images.recipe import Recipe

_RECIPES = Path(__file__).parent / "recipes"
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EXAMPLES = """\b
Examples:
  goldenfleet images plan model-gpu-vllm
  goldenfleet images bake rehearsal --on local
  goldenfleet images bake images/recipes/gateway-cpu.toml --stack prod --settings ec2.toml
  goldenfleet images bake --resume 20261121-101500-3fa9c1
  goldenfleet images promote gateway-cpu dev stage --stack prod
  goldenfleet images sweep --apply

\b
Exit codes: 0 ok, 1 error, 2 usage or recipe, 3 credentials, 6 not found, 8 cancelled,
9 a wait timed out (resume the run), 130 Ctrl-C, 143 SIGTERM.
"""


@click.group(context_settings=_HELP, epilog=_EXAMPLES)
def images() -> None:
    """Golden images: recipe, bake, boot, check, channel."""


for _command in channel_commands.COMMANDS:
    images.add_command(_command)


@images.command()
@click.argument("recipe")
@click.option(
    "--on", type=click.Choice(["ec2", "local"]), default="ec2", show_default=True, help="Where to bake."
)
@click.option("--instance-type", help="Judge weights strategies for nodes of this type.")
@JSON_OPTION
def plan(recipe: str, on: Where, instance_type: str | None, as_json: bool) -> None:
    """What a bake of RECIPE will do, and how its weights get onto a node: time, bytes, cost."""
    from images.plan import plan as make_plan

    with told_plainly():
        made = make_plan(_recipe(recipe), on=on, instance_type=instance_type)
        click.echo(made.to_json() if as_json else made.to_text())


@images.command()
@click.argument("recipe", required=False)
@click.option(
    "--on", type=click.Choice(["ec2", "local"]), default="ec2", show_default=True, help="Where to bake."
)
@click.option("--resume", "run_id", metavar="RUN", help="Go on with a run that stopped.")
@click.option(
    "--on-error",
    type=click.Choice(["cleanup", "abort", "ask"]),
    default="cleanup",
    show_default=True,
    help="abort keeps everything, to be looked at and resumed.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan; make nothing.")
@STACK_OPTION
@REGION_OPTION
@SETTINGS_OPTION
@STATE_OPTION
@JSON_OPTION
def bake(
    recipe: str | None,
    on: Where,
    run_id: str | None,
    on_error: Literal["cleanup", "abort", "ask"],
    dry_run: bool,
    stack: str,
    region: str | None,
    settings_file: Path | None,
    state: Path,
    as_json: bool,
) -> None:
    """Bake RECIPE, boot the result, check it, and publish it to channel dev of the stack."""
    from images.bake import bake as start
    from images.bake import resume
    from images.plan import plan as make_plan

    if (recipe is None) == (run_id is None):
        raise click.UsageError("give either a RECIPE or --resume RUN")
    with told_plainly(), stopped_by_sigterm():
        if recipe is not None and dry_run:
            click.echo(make_plan(_recipe(recipe), on=on).to_text())
            return
        builder, publisher = _workshop(on, stack, region, settings_file, state)
        options = _options(publisher, on_error)
        runs = state.expanduser() / "runs"
        if run_id is not None:
            manifest = resume(run_id, builder, runs=runs, options=options)
        else:
            assert recipe is not None
            manifest = start(_recipe(recipe), builder, runs=runs, stack=stack, options=options)
        _say_image(manifest.to_json(), as_json)


@images.command("diff")
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@JSON_OPTION
def diff_manifests(before: Path, after: Path, as_json: bool) -> None:
    """How two images differ, by their manifests (images show --manifest)."""
    from images.manifest import diff, read

    with told_plainly():
        changes = diff(read(before), read(after))
    if as_json:
        click.echo(json.dumps([asdict(change) for change in changes], indent=2))
        return
    for change in changes:
        click.echo(f"{change.part:10} {change.name}: {change.before or '-'} -> {change.after or '-'}")
    if not changes:
        click.echo("the images hold the same", err=True)


@images.command()
@click.option("--apply", "applied", is_flag=True, help="Remove; without it only tell.")
@click.option("--run", "named", multiple=True, metavar="RUN", help="Take this run for dead.")
@click.option(
    "--max-age-days",
    default=30.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="Unreferenced images that were used since then stay.",
)
@click.option("--region", "regions", multiple=True, help="Where to look; the first one's channels are read.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@STATE_OPTION
@JSON_OPTION
def sweep(
    applied: bool,
    named: tuple[str, ...],
    max_age_days: float,
    regions: tuple[str, ...],
    yes: bool,
    state: Path,
    as_json: bool,
) -> None:
    """Find what dead runs left and images that nobody needs; remove them with --apply."""
    from images.sweep import Sweep

    with told_plainly():
        broom = Sweep(
            [aws(region) for region in regions or (None,)],
            state.expanduser() / "runs",
            SystemClock(),
            named=frozenset(named),
            max_age_s=max_age_days * 86_400,
        )
        found = broom.plan()
        if as_json:
            click.echo(json.dumps([_verdict(verdict) for verdict in found.verdicts], indent=2))
        else:
            for verdict in found.verdicts:
                click.echo(str(verdict))
        if not applied or not (found.doomed or found.manifests):
            click.echo(f"{len(found.doomed)} to delete", err=True)
            return
        confirm(f"Delete {len(found.doomed)} resources?", yes)
        failures = broom.apply(found)
        for failure in failures:
            click.echo(str(failure), err=True)
    sys.exit(ERROR if failures else 0)


def _recipe(given: str) -> Recipe:
    """A file, or the name of a recipe that comes with Goldenfleet. Raises RecipeError."""
    from images.recipe import load

    path = Path(given)
    if path.suffix != ".toml" and not path.exists():
        path = _RECIPES / f"{given}.toml"
        if not path.is_file():
            have = ", ".join(sorted(one.stem for one in _RECIPES.glob("*.toml")))
            raise RecipeError(f"there is no recipe {given}", f"name a TOML file, or one of {have}")
    return load(path)


def _workshop(
    on: Where, stack: str, region: str | None, settings_file: Path | None, state: Path
) -> tuple[Builder, Publisher | None]:
    """The builder, and where its images are published; a local image is published nowhere."""
    from images.remote import connect

    if on == "local":
        from images.builders.local import LocalBuilder

        return LocalBuilder(state.expanduser()), None
    from images.builders.ec2 import Ec2Builder
    from images.channels import Channels

    settings = _settings(region, settings_file)
    cloud = aws(settings.region)
    return Ec2Builder(cloud, settings, connect), Channels(cloud, stack, SystemClock())


def _settings(region: str | None, file: Path | None) -> Ec2Settings:
    """Raises RecipeError with one line that names the key."""
    from pydantic import ValidationError

    from images.builders.ec2_settings import Ec2Settings

    try:
        given = tomllib.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        chosen = region or given.get("region") or environment_region()
        return Ec2Settings.model_validate({**given, "region": chosen})
    except tomllib.TOMLDecodeError as exc:
        raise RecipeError(f"{file}: not TOML: {exc}") from exc
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in error["loc"])
        raise RecipeError(f"{file or 'settings'}: {key}: {error['msg']}".replace(": :", ":")) from exc


def _options(publisher: Publisher | None, on_error: Literal["cleanup", "abort", "ask"]) -> Options:
    from images.bake import Options

    return Options(publisher=publisher, on_step=_say_step, on_error=on_error, ask=_ask)


def _ask(error: ImagesError) -> Literal["cleanup", "abort"]:
    click.echo(f"goldenfleet: {error.message}", err=True)
    if not sys.stdin.isatty():
        return "cleanup"
    return "cleanup" if click.confirm("Remove what the run has made?", default=True, err=True) else "abort"


def _say_step(progress: Progress) -> None:
    if progress.state == "started":
        click.echo(f"          {progress.step} ...", err=True)
    else:
        failed = " failed" if progress.state == "failed" else ""
        click.echo(f"{progress.seconds:7.1f} s {progress.step}{failed}", err=True)


def _say_image(manifest: str, as_json: bool) -> None:
    if as_json:
        click.echo(manifest, nl=False)
        return
    made = json.loads(manifest)
    click.echo(made["image"]["id"])
    booted = made["boot_seconds"]
    spent = f"; launch to ready took {booted:.0f} s" if booted is not None else ""
    click.echo(
        f"{made['recipe']} of run {made['run_id']} passed {len(made['checks'])} checks{spent}", err=True
    )


def _verdict(verdict: Any) -> dict[str, Any]:
    return {"resource": asdict(verdict.resource), "keep": verdict.keep, "reason": verdict.reason}
