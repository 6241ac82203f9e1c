"""Options that several commands have, in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

import fleet

_Command = TypeVar("_Command", bound=Callable[..., Any])
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


def stack(told: str, **more: Any) -> Callable[[_Command], _Command]:
    """GOLDENFLEET_STACK means the same to every command; what happens without it is for `more` to say."""
    return click.option("--stack", envvar="GOLDENFLEET_STACK", metavar="NAME", help=told, **more)


stack_there = stack("By default GOLDENFLEET_STACK, else the only one in the account and region.")

stack_named = stack("Whose Pulumi.NAME.yaml; by default GOLDENFLEET_STACK. None is guessed.", required=True)

REHEARSED = "rehearsal"
stack_rehearsed = stack(
    f"Whose Pulumi.NAME.yaml; by default GOLDENFLEET_STACK, else {REHEARSED}.", default=REHEARSED
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
