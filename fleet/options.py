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
