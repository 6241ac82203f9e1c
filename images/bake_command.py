"""`goldenfleet images bake`: make what it takes from this machine, bake, and say where the result is."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from images.clock import SystemClock
from images.errors import ImagesError, RecipeError
from images.run import DEFAULT_STATE, PARKED
from images.terminal import (
    JSON_OPTION,
    REGION_OPTION,
    SETTINGS_OPTION,
    STACK_OPTION,
    STATE_OPTION,
    aws,
    environment_region,
    stopped_by_sigterm,
    told_plainly,
)

if TYPE_CHECKING:
    from images.bake import OnError, Options, Publisher
    from images.builders import Builder
    from images.builders.ec2_settings import Ec2Settings
    from images.manifest import Manifest
    from images.plan import Where
    from images.progress import Preparation, Steps
    from images.recipe import Recipe
    from images.run import Run

_RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Asked:
    """Options that say where and for whom."""

    on: Where
    stack: str
    region: str | None
    settings_file: Path | None
    state: Path
    on_error: OnError
    as_json: bool

    @property
    def runs(self) -> Path:
        return self.state.expanduser() / "runs"


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--on",
    type=click.Choice(["ec2", "local"]),
    help="Where to bake; by default ec2, or where the run was begun.",
)
@click.option("--resume", "run_id", metavar="RUN", help="Go on with a run that stopped.")
@click.option(
    "--on-error",
    type=click.Choice(["cleanup", "abort", "ask"]),
    default="cleanup",
    show_default=True,
    help="abort keeps everything, to be looked at and resumed.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, or what the run has done; make nothing.")
@STACK_OPTION
@REGION_OPTION
@SETTINGS_OPTION
@STATE_OPTION
@JSON_OPTION
def bake(
    recipe: str | None,
    on: Where | None,
    run_id: str | None,
    on_error: Literal["cleanup", "abort", "ask"],
    dry_run: bool,
    stack: str,
    region: str | None,
    settings_file: Path | None,
    state: Path,
    as_json: bool,
) -> None:
    """Bake RECIPE, boot the result, check it, and publish it to channel dev of the stack.

    An image baked on this machine is published nowhere: its path is the last word on stdout.
    """
    if (recipe is None) == (run_id is None):
        raise click.UsageError("give either a RECIPE or --resume RUN")
    with told_plainly(), stopped_by_sigterm():
        asked = Asked(on or "ec2", stack, region, settings_file, state, on_error, as_json)
        if run_id is not None:
            _resume(run_id, on, asked, dry_run=dry_run)
        elif recipe is not None:
            _bake(find_recipe(recipe), asked, dry_run=dry_run)


def find_recipe(given: str) -> Recipe:
    """A file, or the name of a recipe that comes with Goldenfleet. Raises RecipeError."""
    from images.recipe import load

    path = Path(given)
    if path.suffix != ".toml" and not path.exists():
        path = _RECIPES / f"{given}.toml"
        if not path.is_file():
            have = ", ".join(sorted(one.stem for one in _RECIPES.glob("*.toml")))
            raise RecipeError(f"there is no recipe {given}", f"name a TOML file, or one of {have}")
    return load(path)


def _bake(recipe: Recipe, asked: Asked, *, dry_run: bool) -> None:
    from images.bake import bake as start
    from images.plan import plan

    made = plan(recipe, on=asked.on)
    if dry_run:
        click.echo(made.to_json() if asked.as_json else made.to_text())
        return
    session = _Session(recipe, asked)
    session.prepare()
    with session.told_where():
        manifest = start(
            recipe, session.builder, runs=asked.runs, stack=asked.stack, options=session.options()
        )
    session.say(manifest)


def _resume(run_id: str, on: Where | None, asked: Asked, *, dry_run: bool) -> None:
    from images.bake import resume
    from images.run import open_run

    run = open_run(asked.runs, run_id, SystemClock())
    if dry_run:
        _say_rest(run, asked.as_json)
        return
    begun: Where = on or ("local" if run.builder == "local" else "ec2")
    session = _Session(run.recipe, replace(asked, on=begun, stack=run.stack))
    if run.ledger.stage_done("clean") is None:
        session.prepare()
    with session.told_where():
        manifest = resume(run_id, session.builder, runs=asked.runs, options=session.options())
    session.say(manifest)


class _Session:
    """One bake as the person at the terminal sees it."""

    def __init__(self, recipe: Recipe, asked: Asked) -> None:
        from images.progress import Steps

        self._recipe = recipe
        self._asked = asked
        self._steps: Steps = Steps()
        self._run: Run | None = None
        self.builder, self._publisher = _workshop(asked)

    def prepare(self) -> None:
        """What is missing on this machine is found out, or made, before anything else is."""
        for preparation in _preparations(self._recipe, self.builder):
            self._steps.prepare(preparation)

    def options(self) -> Options:
        from images.bake import Options

        return Options(
            publisher=self._publisher,
            on_step=self._steps.show,
            on_error=self._asked.on_error,
            ask=_ask,
            on_run=self._begun,
        )

    @contextmanager
    def told_where(self) -> Iterator[None]:
        """An error is followed by where to look, and how to go on."""
        try:
            yield
        except ImagesError:
            self._say_where()
            raise

    def say(self, manifest: Manifest) -> None:
        assert manifest.image is not None
        assert self._run is not None
        if self._asked.as_json:
            click.echo(manifest.to_json(), nl=False)
            return
        booted = manifest.boot_seconds
        spent = f"; launch to ready took {booted:.0f} s" if booted is not None else ""
        click.echo(f"\n{manifest.recipe} passed {len(manifest.checks)} checks{spent}", err=True)
        click.echo(f"manifest: {self._run.directory / 'manifest.json'}", err=True)
        if self.builder.name == "local" and manifest.role == "model":
            click.echo(f"try it:   goldenfleet rehearse --image {manifest.image.id}\n", err=True)
        click.echo(manifest.image.id)

    def _begun(self, run: Run) -> None:
        self._run = run
        click.echo(f"run {run.id}, log {run.directory / 'steps.log'}", err=True)

    def _say_where(self) -> None:
        if self._run is None:
            return
        evidence = self._run.directory / "evidence"
        if evidence.is_dir():
            click.echo(f"goldenfleet: consoles and the error are kept in {evidence}", err=True)
        if self._run.ledger.outcome == PARKED:
            state = "" if self._asked.state == DEFAULT_STATE else f" --state {self._asked.state}"
            run = f"{self._run.id}{state}"
            click.echo(f"goldenfleet: go on with it: goldenfleet images bake --resume {run}", err=True)
            click.echo(f"goldenfleet: or remove it: goldenfleet images sweep --apply --run {run}", err=True)


def _preparations(recipe: Recipe, builder: Builder) -> Iterator[Preparation]:
    """First what costs nothing to find out."""
    from images.builders.local import LocalBuilder
    from images.materials import archives
    from images.progress import Preparation

    if isinstance(builder, LocalBuilder):
        yield Preparation("choose a kind of machine", lambda: str(builder.choice))
        yield Preparation("have a base disk", lambda: builder.prepare_base(recipe))
    for name, make in archives(recipe):
        yield Preparation(f"have the container archive {name}", make)


def _workshop(asked: Asked) -> tuple[Builder, Publisher | None]:
    """The builder, and where its images are published; a local image is published nowhere."""
    from images.remote import connect

    if asked.on == "local":
        from images.builders.local import LocalBuilder

        return LocalBuilder(asked.state.expanduser()), None
    from images.builders.ec2 import Ec2Builder
    from images.channels import Channels

    settings = _settings(asked.region, asked.settings_file)
    cloud = aws(settings.region)
    return Ec2Builder(cloud, settings, connect), Channels(cloud, asked.stack, SystemClock())


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


def _ask(error: ImagesError) -> Literal["cleanup", "abort"]:
    click.echo(f"goldenfleet: {error.message}", err=True)
    if not sys.stdin.isatty():
        return "cleanup"
    return "cleanup" if click.confirm("Remove what the run has made?", default=True, err=True) else "abort"


def _say_rest(run: Run, as_json: bool) -> None:
    """What a run that stopped has done and made; resuming goes on after that."""
    done = [entry.name for entry in run.ledger.entries if entry.event == "stage"]
    made = [asdict(resource) for resource in run.ledger.standing]
    if as_json:
        told = {"run": run.id, "recipe": run.recipe.name, "on": run.builder, "done": done, "made": made}
        click.echo(json.dumps({**told, "outcome": run.ledger.outcome}, indent=2))
        return
    click.echo(f"run {run.id} of {run.recipe.name} on {run.builder}: {run.ledger.outcome or 'did not end'}")
    click.echo(f"done: {', '.join(done) or 'nothing that need not be done again'}")
    for resource in run.ledger.standing:
        click.echo(f"made: {resource}")
