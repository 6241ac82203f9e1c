"""`goldenfleet images list|show|history|promote|rollback`: which image a tier launches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from images.clock import SystemClock
from images.terminal import (
    DRY_RUN_OPTION,
    JSON_OPTION,
    REGION_OPTION,
    STACK_OPTION,
    aws,
    confirm,
    told_plainly,
)

if TYPE_CHECKING:
    from images.channels import Channels, Pointer

_PROMOTE_EXAMPLES = """\b
Examples:
  goldenfleet images promote gateway-cpu dev stage --stack stage
  goldenfleet images promote gateway-cpu stage prod --from-stack stage --stack prod
  goldenfleet images promote gateway-cpu ami-0a1b2c3d4e5f60718 prod --from-stack stage --stack prod
"""


@click.command("list")
@STACK_OPTION
@REGION_OPTION
@JSON_OPTION
def list_channels(stack: str, region: str | None, as_json: bool) -> None:
    """Where every channel of the stack points."""
    with told_plainly():
        _say_pointers(open_channels(stack, region).list(), as_json)


@click.command()
@click.argument("recipe")
@click.argument("channel", default="dev")
@click.option("--manifest", is_flag=True, help="Print the image's manifest.")
@STACK_OPTION
@REGION_OPTION
@JSON_OPTION
def show(recipe: str, channel: str, manifest: bool, stack: str, region: str | None, as_json: bool) -> None:
    """What CHANNEL of RECIPE points at."""
    with told_plainly():
        channels = open_channels(stack, region)
        pointer = channels.show(recipe, channel)
        if manifest:
            click.echo(channels.manifest(pointer.image_id).decode(), nl=False)
        else:
            _say_pointers([pointer], as_json)


@click.command()
@click.argument("recipe")
@click.argument("channel", default="dev")
@STACK_OPTION
@REGION_OPTION
@JSON_OPTION
def history(recipe: str, channel: str, stack: str, region: str | None, as_json: bool) -> None:
    """Every version of a channel, oldest first."""
    with told_plainly():
        _say_pointers(open_channels(stack, region).history(recipe, channel), as_json)


@click.command(epilog=_PROMOTE_EXAMPLES)
@click.argument("recipe")
@click.argument("source")
@click.argument("target")
@click.option("--from-stack", metavar="NAME", help="Whose SOURCE; by default that of --stack.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@DRY_RUN_OPTION
@STACK_OPTION
@REGION_OPTION
@JSON_OPTION
def promote(
    recipe: str,
    source: str,
    target: str,
    from_stack: str | None,
    yes: bool,
    dry_run: bool,
    stack: str,
    region: str | None,
    as_json: bool,
) -> None:
    """Point channel TARGET of RECIPE at what SOURCE points at.

    SOURCE is a channel, or the id of an image that a channel of RECIPE has held.
    """
    with told_plainly():
        channels = open_channels(stack, region)
        origin = open_channels(from_stack or stack, region)
        seen = origin.find(recipe, source)
        if not dry_run:
            came = f" ({from_stack}/{recipe}/{seen.channel})" if from_stack else ""
            confirm(f"Point {stack}/{recipe}/{target} at {seen.image_id}{came}?", yes)
        moved = channels.promote(
            recipe, source, target, origin=origin, image_id=seen.image_id, dry_run=dry_run
        )
        _say_pointers([moved], as_json)


@click.command()
@click.argument("recipe")
@click.argument("channel")
@click.option("--version", type=int, help="A version of its history; by default the last good one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@DRY_RUN_OPTION
@STACK_OPTION
@REGION_OPTION
@JSON_OPTION
def rollback(
    recipe: str,
    channel: str,
    version: int | None,
    yes: bool,
    dry_run: bool,
    stack: str,
    region: str | None,
    as_json: bool,
) -> None:
    """Point CHANNEL of RECIPE at what it held before."""
    with told_plainly():
        channels = open_channels(stack, region)
        target = channels.rollback(recipe, channel, version=version, dry_run=True)
        if not dry_run:
            confirm(f"Point {stack}/{recipe}/{channel} back at {target.image_id}?", yes)
            target = channels.rollback(recipe, channel, version=version)
        _say_pointers([target], as_json)


def open_channels(stack: str, region: str | None) -> Channels:
    from images.channels import Channels

    return Channels(aws(region), stack, SystemClock())


def _say_pointers(pointers: Sequence[Pointer], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(pointer) for pointer in pointers], indent=2))
        return
    for pointer in pointers:
        mark = "" if pointer.current else " (before)"
        click.echo(
            f"{pointer.recipe:20} {pointer.channel:6} v{pointer.version:<4} {pointer.image_id}"
            f"  {pointer.why}{mark}"
        )


COMMANDS = (list_channels, show, history, promote, rollback)
