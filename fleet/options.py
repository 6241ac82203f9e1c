"""Options that several commands have, in the same words."""

from __future__ import annotations

from pathlib import Path

import click

import fleet

CHECKOUT = Path(fleet.__file__).parent.parent

project = click.option(
    "--project",
    default=CHECKOUT,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of Pulumi.yaml; by default this checkout.",
)

changes = click.option(
    "--config",
    "-c",
    multiple=True,
    metavar="KEY=JSON",
    help="Replace one whole key of the stack's file for this run, e.g. goldenfleet:logRetentionDays=7.",
)
"""`fleet.terminal.overrides` reads it."""

stack_there = click.option(
    "--stack",
    envvar="GOLDENFLEET_STACK",
    metavar="NAME",
    help="By default GOLDENFLEET_STACK, else the only one in the account and region.",
)

rehearsal_kept = click.option(
    "--rehearsal",
    is_flag=True,
    envvar="GOLDENFLEET_REHEARSAL",
    help="In the rehearsal that is kept on this machine; also by GOLDENFLEET_REHEARSAL=1.",
)

as_json = click.option("--json", "as_json", is_flag=True, help="The result as JSON.")

yes = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")

dry_run = click.option("--dry-run", is_flag=True, help="Show the plan and do nothing.")
