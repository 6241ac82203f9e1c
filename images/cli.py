"""`goldenfleet images`: plan and bake recipes, move channels, sweep.

Results go to stdout, the rest to stderr.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from images import channel_commands
from images.bake_command import bake, find_recipe
from images.sweep_command import sweep
from images.terminal import JSON_OPTION, told_plainly

if TYPE_CHECKING:
    from images.plan import Where

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EXAMPLES = """\b
Examples:
  goldenfleet images plan model-gpu-vllm
  goldenfleet images bake rehearsal --on local
  goldenfleet images bake images/recipes/gateway-cpu.toml --stack prod --settings ec2.toml
  goldenfleet images bake --resume 20261121-101500-3fa9c1
  goldenfleet images promote gateway-cpu dev stage --stack prod
  goldenfleet images sweep --apply
  goldenfleet images sweep --on local

\b
Exit codes: 0 ok, 1 error, 2 usage or recipe, 3 credentials, 6 not found, 8 cancelled,
9 a wait timed out (resume the run), 130 Ctrl-C, 143 SIGTERM.
"""


@click.group(context_settings=_HELP, epilog=_EXAMPLES)
def images() -> None:
    """Golden images: recipe, bake, boot, check, channel."""


for _command in (bake, sweep, *channel_commands.COMMANDS):
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
        made = make_plan(find_recipe(recipe), on=on, instance_type=instance_type)
        click.echo(made.to_json() if as_json else made.to_text())


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
