"""`goldenfleet config`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleet import options
from fleet.terminal import USAGE, overrides, told_plainly

_STOPPED = "stopped"
_EXAMPLES = """\b
Examples:
  goldenfleet config explain
  goldenfleet config explain --stack prod
  goldenfleet config check --stack prod
  goldenfleet config check --stack dev -c 'goldenfleet:network={"zones": 2}'

\b
Exit codes: 0 the settings are good, 2 they cannot be used.
"""


@click.group(epilog=_EXAMPLES)
def config() -> None:
    """Explain and check the settings of a stack."""


@config.command()
@options.stack("Show what this stack has, too; by default GOLDENFLEET_STACK.")
@options.changes
@options.project
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="As the page docs/settings.md.")
def explain(stack: str | None, config: tuple[str, ...], project: Path, as_json: bool, markdown: bool) -> None:
    """Print every setting: its type and default, what it is, and when to change it."""
    with told_plainly(USAGE, _STOPPED):
        # Imported here: pydantic and the settings' models take long enough to be felt in --help.
        from fleet.stack.explain import all_settings, values
        from fleet.stack.explain_words import describe, page
        from fleet.stack.settings import load_settings

        if markdown:
            click.echo(page(), nl=False)
            return
        found = values(load_settings(project, stack, overrides(config))) if stack else None
        if as_json:
            told = [
                {**setting.as_json(), **({"here": found.get(setting.path)} if found else {})}
                for setting in all_settings()
            ]
            click.echo(json.dumps(told, indent=2))
            return
        click.echo(describe(found))


@config.command()
@options.stack_named
@options.changes
@options.project
def check(stack: str, config: tuple[str, ...], project: Path) -> None:
    """Refuse settings that cannot work, naming each, without asking AWS for anything."""
    with told_plainly(USAGE, _STOPPED):
        from fleet.stack.settings import load_settings

        settings = load_settings(project, stack, overrides(config))
    sizes = ", ".join(f"{t.name} {t.capacity.desired} of at most {t.capacity.max}" for t in settings.tiers)
    click.echo(f"The settings of {stack} are good: {sizes}.")
