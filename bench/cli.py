"""The command line of scripts/bench-server."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import click
import uvloop
from rich.console import Console

from bench.errors import BenchError, NothingToCompare
from bench.gateways import ROOT, SPECS
from bench.report import as_json, bars, show, summary
from bench.run import SECTIONS, Plan, Run

_NAMES = [spec.name for spec in SPECS]
_DEFAULT_SECTIONS = [name for name in SECTIONS if name != "soak"]
_WIDTH = 160


class _Listed(click.ParamType[list[str]]):
    """Names with commas between them."""

    name = "names"

    def __init__(self, known: list[str]) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        names = str(value).split(",")
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(self._known)}", param, ctx)
        return names


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  scripts/bench-server                                     everything, about 17 minutes
  scripts/bench-server --quick --only unary,paced,full     a first look, about a minute
  scripts/bench-server --gateways ours,nginx,vllm-router --json figures.json
  scripts/bench-server --only faults --gateways ours
  scripts/bench-server --gateways ours --only paced --soak 3600 --limit-s 4000
\b
Exit codes: 0 every bar that was measured is met, 1 error, 2 usage, 4 a bar is not met.""",
)
@click.option(
    "--only",
    type=_Listed(list(SECTIONS)),
    default=_DEFAULT_SECTIONS,
    show_default=",".join(_DEFAULT_SECTIONS),
    help="Sections to run.",
)
@click.option(
    "--gateways", type=_Listed(_NAMES), default=_NAMES, show_default=",".join(_NAMES), help="What to compare."
)
@click.option(
    "--repeats", type=click.IntRange(1, 50), default=3, show_default=True, help="Of each, in turns."
)
@click.option("--quick", is_flag=True, help="Shorter measurements, each once: for a first look.")
@click.option(
    "--soak", "soak_s", type=click.FloatRange(min=6), metavar="SECONDS", help="Soak ours for so long."
)
@click.option("--limit-s", default=1800.0, show_default=True, help="The most that the whole run may take.")
@click.option(
    "--nice",
    type=click.IntRange(-20, 19),
    default=0,
    show_default=True,
    help="Priority of all that is measured; below 0, as root, it keeps a busy machine's other work out.",
)
@click.option(
    "--python",
    type=click.Path(exists=True, dir_okay=False),
    default=sys.executable,
    help="What runs ours, with this environment's packages: images have Debian's.",
)
@click.option(
    "--tree",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT,
    help="Another checkout whose server is measured, with this one's Python environment.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures."
)
def main(
    only: list[str],
    gateways: list[str],
    repeats: int,
    quick: bool,
    soak_s: float | None,
    limit_s: float,
    nice: int,
    python: str,
    tree: Path,
    json_file: Path | None,
) -> None:
    """Measure our gateway beside others, in one run on this machine.

    One core is the gateway's; clients and fake engines have the others. Peers that are not installed are
    skipped, and the output says so.
    """
    present = [spec for spec in SPECS if spec.name in gateways and not spec.absent()]
    skipped = {spec.name: why for spec in SPECS if spec.name in gateways and (why := spec.absent())}
    plan = Plan(
        gateways=present,
        sections=only,
        repeats=1 if quick else repeats,
        quick=quick,
        soak_s=soak_s or 0.0,
        limit_s=limit_s,
        tree=tree.resolve(),
        nice=nice,
        python=python,
    )
    try:
        sys.exit(_run(plan, skipped, json_file))
    except BenchError as exc:
        click.echo(f"bench-server: {exc}", err=True)
        sys.exit(1)


def _run(plan: Plan, skipped: dict[str, str], json_file: Path | None) -> int:
    """The exit code. What was measured is shown even if the run could not end. Raises BenchError."""
    if not plan.gateways:
        raise NothingToCompare("none of the gateways is here: " + "; ".join(skipped.values()))
    with tempfile.TemporaryDirectory(prefix="goldenfleet-bench-", ignore_cleanup_errors=True) as directory:
        run = Run(plan, Path(directory), lambda line: click.echo(line, err=True))
        try:
            uvloop.run(run.all())
        finally:
            console = Console(width=_WIDTH, no_color="NO_COLOR" in os.environ)
            show(run.results, plan.gateways, skipped, console)
            if json_file:
                json_file.write_text(json.dumps(as_json(run.results, skipped), indent=1) + "\n")
    return 4 if any(bar.met is False for bar in bars(run.results, summary(run.results))) else 0


if __name__ == "__main__":
    main(prog_name="scripts/bench-server")
