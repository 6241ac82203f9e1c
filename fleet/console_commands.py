"""`goldenfleet console`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from html import escape
from pathlib import Path
from typing import Any

import click

from fleet import options
from fleet.terminal import FAILED, INTERRUPTED, told_plainly

PORT = 8600
_TERMINATED = 128 + signal.SIGTERM
_EXAMPLES = """\b
Examples:
  goldenfleet console --stack prod
  goldenfleet console --stack prod --allow-drain --open
  goldenfleet console --rehearsal --port 0
  ssh -t -L 8600:127.0.0.1:8600 bastion goldenfleet console --stack prod

\b
Exit codes: 1 it failed, 2 it cannot start as asked, 3 AWS refuses the credentials, 6 there is no such stack,
130 Ctrl-C, 143 SIGTERM.
"""


@click.command(epilog=_EXAMPLES)
@options.stack_there
@options.rehearsal_kept
@click.option("--allow-drain", is_flag=True, help="Let the page drain nodes; without, it only shows.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="A loopback address; any other is refused."
)
@click.option(
    "--port", default=PORT, type=click.IntRange(0, 65535), show_default=True, help="0 takes a free one."
)
@click.option(
    "--interval",
    default=2.0,
    type=click.FloatRange(0.5, 300),
    show_default=True,
    help="Seconds from one look at AWS to the next while a page is open; at notices, at most one.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in your browser.")
@options.as_json
def console(
    stack: str | None, rehearsal: bool, host: str, port: int, open_page: bool, as_json: bool, **wanted: Any
) -> None:
    """Serve one page on this machine: the fleet, its notices and countdowns, lost requests, cost now."""
    with told_plainly(FAILED, "stopped"):
        # Imported here: boto3 and uvicorn take seconds that --help should not.
        from fleet.console.serve import bound, url
        from fleet.console.site import Site
        from fleet.oncall.aws import connect

        with bound(host, port) as listener:
            aws = connect(stack, rehearsal=rehearsal)
            site = Site(aws, wanted["interval"], may_drain=wanted["allow_drain"])
            address = url(listener, site.known.key)
            said = {"url": address, "stack": aws.stack, "allow_drain": wanted["allow_drain"]}
            click.echo(json.dumps(said) if as_json else _words(said))
            sys.stdout.flush()
            with _opened(address) if open_page else nullcontext():
                came = asyncio.run(site.serve(listener))
    if came == signal.SIGTERM:
        sys.exit(_TERMINATED)
    click.echo("goldenfleet: the console has ended; the fleet goes on as it is", err=True)
    sys.exit(INTERRUPTED)


def _words(said: Mapping[str, Any]) -> str:
    mode = "with drains" if said["allow_drain"] else "read only; --allow-drain lets it drain"
    return (
        f"Console of stack {said['stack']} ({mode}), until Ctrl-C:\n\n  {said['url']}\n\n"
        "The address holds a key: whoever has it sees the page."
    )


@contextmanager
def _opened(address: str) -> Iterator[None]:
    """By a file that only its owner reads: a browser's command line is everybody's to see."""
    with tempfile.TemporaryDirectory(prefix="goldenfleet-console-") as folder:
        page = Path(folder) / "console.html"
        page.write_text(f'<meta http-equiv="refresh" content="0; url={escape(address)}">\n', encoding="utf-8")
        if not webbrowser.open(page.as_uri()):
            click.echo("goldenfleet: no browser could be opened; open the address yourself", err=True)
        yield
