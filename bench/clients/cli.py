"""The command line of scripts/bench-clients."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import uvloop

from bench.clients.install import Installed, install
from bench.clients.run import Crowd, Row, measure
from bench.clients.scene import set_up
from bench.clients.subjects import KINDS
from bench.clients.table import table, write
from bench.errors import BenchError
from bench.gateways import ROOT
from bench.processes import Cores
from bench.stage import Stage

_GATEWAYS = 4
_ENGINE = {"pace_ms": 25.0}
_PAGE = ROOT / "docs" / "clients.md"
_NAMES = [kind.name for kind in KINDS]
NOT_MET = 4


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  scripts/bench-clients                       all clients, some four minutes
  scripts/bench-clients --client goldenfleet_client --client "OpenAI SDK"
  scripts/bench-clients --write               put the tables into docs/clients.md
  scripts/bench-clients --install             only: what the wheel takes to install and to import
\b
Exit codes: 0 every bar that was measured is met, 1 error, 2 usage, 4 a bar is not met, 130 Ctrl-C.""",
)
@click.option(
    "--requests", default=2000, type=click.IntRange(1, 100_000), show_default=True, help="Of each client."
)
@click.option(
    "--at-once", default=48, type=click.IntRange(1, 1000), show_default=True, help="Requests in flight."
)
@click.option(
    "--kill-every",
    "kill_every_s",
    default=5.0,
    type=click.FloatRange(1),
    show_default=True,
    metavar="SECONDS",
    help="A gateway is killed and started again.",
)
@click.option(
    "--client", "clients", multiple=True, type=click.Choice(_NAMES), help="Only this one; may be given again."
)
@click.option(
    "--limit-s",
    default=300.0,
    type=click.FloatRange(1),
    show_default=True,
    help="The most that one client may take.",
)
@click.option("--install", "only_install", is_flag=True, help="Measure the client's wheel instead.")
@click.option("--write", "into_page", is_flag=True, help="Put all of it into docs/clients.md.")
def main(
    requests: int,
    at_once: int,
    kill_every_s: float,
    clients: tuple[str, ...],
    limit_s: float,
    only_install: bool,
    into_page: bool,
) -> None:
    """Ask through Envoy, by several clients in turn, while gateways are killed; say what each one lost.

    Everything runs on this machine's loopback addresses, and ends with the benchmark.
    """
    crowd = Crowd(requests, at_once, kill_every_s=kill_every_s)
    try:
        rows = [] if only_install else _measured(crowd, clients or _NAMES, limit_s)
        wheel = _installed() if only_install or into_page else None
        text = "\n\n".join([*([table(rows)] if rows else []), *([wheel.table()] if wheel else [])])
        if into_page:
            write(_PAGE, text)
    except BenchError as exc:
        click.echo(f"bench-clients: {exc}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("bench-clients: stopped; nothing is left running", err=True)
        sys.exit(130)
    click.echo(text)
    missed = [*unmet(rows), *([] if wheel is None or wheel.met else ["the wheel's bars"])]
    for words in missed:
        click.echo(f"bench-clients: not met: {words}", err=True)
    sys.exit(NOT_MET if missed else 0)


def _measured(crowd: Crowd, names: Sequence[str], limit_s: float) -> list[Row]:
    with _directory() as directory:
        return uvloop.run(_in(directory, crowd, names, limit_s))


async def _in(directory: Path, crowd: Crowd, names: Sequence[str], limit_s: float) -> list[Row]:
    with Stage(directory, Cores.here()) as stage:
        scene = await set_up(stage, directory, _GATEWAYS, _ENGINE)
        kinds = [kind for kind in KINDS if kind.name in names]
        return await measure(scene, kinds, crowd, limit_s, lambda line: click.echo(line, err=True))


def _installed() -> Installed:
    with _directory() as directory:
        return install(directory)


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="goldenfleet-clients-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def unmet(rows: Sequence[Row]) -> list[str]:
    """Ours loses nothing; an SDK that retries, but cannot resume, at most the streams in flight."""
    found = []
    for row in rows:
        failed = row.asked - row.counts["ok"]
        avoidable = failed - row.counts["cut"]
        if row.name.startswith("goldenfleet_client") and failed:
            found.append(f"{row.name} lost {failed}")
        if row.name == "OpenAI SDK, set as below" and (avoidable or row.counts["cut"] > row.losses.in_flight):
            found.append(f"{row.name} lost {avoidable} that a retry saves, {row.counts['cut']} streams")
    return found


if __name__ == "__main__":
    main(prog_name="scripts/bench-clients")
