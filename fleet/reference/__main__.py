"""`python -m fleet.reference [--check]`: write the pages, or say which are not as the code is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from fleet.cli import main as root
from fleet.policy.page import page as policy_page
from fleet.reference import commands, errors, events
from fleet.reference.meanings import MEANINGS
from fleet.stack.explain_words import page as settings_page
from fleet.terminal import FAILED, told_plainly
from server.metrics import document as metrics_page

CHECKOUT = Path(__file__).parent.parent.parent


def pages(checkout: Path = CHECKOUT) -> Mapping[str, str]:
    """File of docs/ -> what it must hold."""
    return {
        "commands.md": commands.page(root),
        "errors.md": errors.page(),
        "events.md": events.page(checkout, MEANINGS),
        "metrics.md": metrics_page(),
        "policy.md": policy_page(),
        "settings.md": settings_page(),
    }


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where a page is not as the code is.")
def main(check: bool) -> None:
    """Write the pages of docs/ that are made from the code."""
    with told_plainly(FAILED, "stopped"):
        stale = {name: text for name, text in pages().items() if _read(CHECKOUT / "docs" / name) != text}
    for name, text in stale.items():
        click.echo(f"docs/{name} {'is not as the code is' if check else 'written'}", err=True)
        if not check:
            (CHECKOUT / "docs" / name).write_text(text)
    sys.exit(1 if check and stale else 0)


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


if __name__ == "__main__":
    main()
