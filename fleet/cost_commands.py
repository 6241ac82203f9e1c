"""`goldenfleet cost`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

import fleet
from fleet.errors import GoldenfleetError

_CHECKOUT = Path(fleet.__file__).parent.parent
_EXAMPLES = """\b
Examples:
  goldenfleet cost --stack prod
  goldenfleet cost --stack prod --live
  goldenfleet cost --stack dev -c goldenfleet:logRetentionDays=7 --json
"""


@click.command(epilog=_EXAMPLES)
@click.option("--stack", default="prod", show_default=True, help="Whose Pulumi.<stack>.yaml to price.")
@click.option(
    "--config",
    "-c",
    multiple=True,
    metavar="KEY=JSON",
    help="Replace one whole key of that file, e.g. goldenfleet:logRetentionDays=7.",
)
@click.option(
    "--project",
    default=_CHECKOUT,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of Pulumi.yaml; by default this checkout.",
)
@click.option("--live", is_flag=True, help="Ask AWS for today's prices of instances, with your credentials.")
@click.option("--json", "as_json", is_flag=True, help="The bill as JSON.")
def cost(stack: str, config: tuple[str, ...], project: Path, live: bool, as_json: bool) -> None:
    """Price a stack from its settings: hourly and monthly, at min, desired and max, and at worst."""
    try:
        _price(stack, _overrides(config), project, live=live, as_json=as_json)
    except GoldenfleetError as error:
        raise click.ClickException(str(error)) from error


def _price(stack: str, overrides: Mapping[str, str], project: Path, *, live: bool, as_json: bool) -> None:
    # Imported here: pydantic and the settings' models take long enough to be felt in --help.
    from fleet.cost import bundled_table, make_bill
    from fleet.cost.stack import materials_of, region_of
    from fleet.cost.words import as_json as bill_as_json
    from fleet.cost.words import describe, warning
    from fleet.stack.settings import load_settings

    now = datetime.now(UTC)
    materials = materials_of(load_settings(project, stack, overrides))
    region = region_of(project, stack, overrides)
    if live:
        from fleet.cost.live import live_table, open_sources

        types = [kind for tier in materials.tiers for kind in tier.instance_types]
        table = live_table(bundled_table(), region, types, open_sources(region), now)
    else:
        table = bundled_table(region)
    bill = make_bill(materials, table)
    if as_json:
        click.echo(json.dumps(bill_as_json(bill, table, now.date()), indent=2))
    else:
        click.echo(describe(bill, table, now.date()))
    if told := warning(table, now.date()):
        click.echo(f"warning: {told}", err=True)


def _overrides(config: tuple[str, ...]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in config]
    wrong = [key for key, equals, _ in pairs if not equals or ":" not in key]
    if wrong:
        raise click.BadParameter(
            f"{wrong[0]!r} is not KEY=JSON with a key such as goldenfleet:tiers", param_hint="--config"
        )
    return {key: value for key, _, value in pairs}
