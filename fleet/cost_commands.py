"""`goldenfleet cost`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from fleet import options
from fleet.terminal import FAILED, overrides, told_plainly

_EXAMPLES = """\b
Examples:
  goldenfleet cost --stack prod
  goldenfleet cost --stack prod --live
  goldenfleet cost --stack dev -c goldenfleet:logRetentionDays=7 --json

\b
Exit codes: 0 priced, 1 a price is not known or AWS did not tell it, 2 it cannot be asked so,
3 AWS must not tell it to you, 130 Ctrl-C.
"""


@click.command(epilog=_EXAMPLES)
@options.stack_named
@options.changes
@options.project
@click.option("--live", is_flag=True, help="Ask AWS for today's prices of instances, with your credentials.")
@click.option("--json", "as_json", is_flag=True, help="The bill as JSON.")
def cost(stack: str, config: tuple[str, ...], project: Path, live: bool, as_json: bool) -> None:
    """Price a stack from its settings: hourly and monthly, at min, desired and max, and at worst."""
    with told_plainly(FAILED, "stopped"):
        _price(stack, overrides(config), project, live=live, as_json=as_json)


def _price(stack: str, changes: Mapping[str, str], project: Path, *, live: bool, as_json: bool) -> None:
    # Imported here: pydantic and the settings' models take long enough to be felt in --help.
    from fleet.cost import bundled_table, make_bill
    from fleet.cost.stack import materials_of, region_of
    from fleet.cost.words import as_json as bill_as_json
    from fleet.cost.words import describe, warning
    from fleet.stack.settings import load_settings

    now = datetime.now(UTC)
    materials = materials_of(load_settings(project, stack, changes))
    region = region_of(project, stack, changes)
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
