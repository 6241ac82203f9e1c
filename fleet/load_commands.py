"""`goldenfleet load`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from fleet.endpoint import choose, rehearsal_option
from fleet.endpoint import option as endpoint_option
from fleet.errors import GoldenfleetError
from fleet.terminal import FAILED, INTERRUPTED, USAGE, told_plainly

if TYPE_CHECKING:
    from fleet.load.run import Load, Result, Stage

_EXAMPLES = """\b
Examples:
  goldenfleet load --endpoint http://127.0.0.1:8088
  goldenfleet load --rate 1,2,4,8 --duration 60 --png latency.png
  goldenfleet load --arrivals bursty --rate 5 --prompt-tokens 500 --output-tokens 200
  goldenfleet load --trace AzureLLMInferenceTrace_conv.csv --speed 2 --duration 300 --json
  goldenfleet load --rate 20 --dry-run

\b
Exit codes: 0 nothing was lost, 1 requests were lost or truncated, or all refused, or nobody answers, 2 usage,
3 the key is not accepted, 6 no such model or no rehearsal, 130 Ctrl-C; what was measured until then is told.
The key is read from GOLDENFLEET_API_KEY.
"""


class _Rates(click.ParamType[tuple[float, ...]]):
    """A comma list of requests a second."""

    name = "rates"

    def convert(
        self, value: str | tuple[float, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,2,4", param, ctx)
        if not all(0 < rate <= 10_000 for rate in rates):
            self.fail("rates lie between 0 and 10000 requests a second", param, ctx)
        return rates


@click.command(epilog=_EXAMPLES)
@endpoint_option
@rehearsal_option
@click.option("--model", help="By default the first that the endpoint serves.")
@click.option(
    "--rate", "rates", type=_Rates(), default=(1.0,), help="Requests a second; several are run in turn.  [1]"
)
@click.option(
    "--arrivals",
    "pattern",
    type=click.Choice(["poisson", "bursty", "steady"]),
    default="poisson",
    show_default=True,
)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A CSV with TIMESTAMP,ContextTokens,GeneratedTokens instead of --rate.",
)
@click.option(
    "--speed",
    default=1.0,
    type=click.FloatRange(0, 10_000, min_open=True),
    show_default=True,
    help="How many times as fast to play the trace.",
)
@click.option(
    "--duration",
    "duration_s",
    default=30.0,
    type=click.FloatRange(0, 86_400, min_open=True),
    show_default=True,
    help="Seconds for which requests leave, at each rate.",
)
@click.option(
    "--prompt-tokens",
    default=128,
    type=click.IntRange(1),
    show_default=True,
    help="Of each prompt, about; with a trace, the most.",
)
@click.option(
    "--output-tokens",
    default=64,
    type=click.IntRange(1),
    show_default=True,
    help="The most of each answer.",
)
@click.option("--completions", is_flag=True, help="Ask /v1/completions instead of chat.")
@click.option(
    "--most-at-once",
    default=1000,
    type=click.IntRange(1),
    show_default=True,
    help="Bound of this process; a request beyond it is unsent and counted.",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=120.0,
    type=click.FloatRange(0, min_open=True),
    show_default=True,
    help="Seconds that a request may take, retries included.",
)
@click.option("--seed", default=1, show_default=True, help="Of arrivals and prompts.")
@click.option(
    "--png", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Draw latency against rate."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a JSON line for each request to this file.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def load(
    endpoint: str | None,
    rehearsal: bool,
    prompt_tokens: int,
    output_tokens: int,
    completions: bool,
    png: Path | None,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Ask an endpoint in an open loop, and say how latency grows with load.

    Requests leave when they are due, however slow the answers are, and times count from when they were due:
    a service that stalls cannot hide what it made clients wait.
    """
    from fleet.load.run import allow_connections, plan

    with told_plainly(USAGE, "stopped"):
        whom = choose(endpoint, rehearsal=rehearsal)
        wanted = _wanted(whom, prompt_tokens, output_tokens, chat=not completions, **asked)
        _check_folder(png)
        stages = plan(wanted)
        allow_connections(wanted.most_at_once)
    if dry_run:
        _say_plan(wanted, stages)
        return
    with told_plainly(USAGE, "stopped before the first request"), _opened(out) as lines:
        result = _carry_out(wanted, stages, lines)
    with told_plainly(FAILED, "stopped"):
        _give(result, png, as_json=as_json)
    if result.stopped:
        sys.exit(INTERRUPTED)
    sys.exit(0 if all(stage.good for stage in result.stages) else FAILED)


def _wanted(endpoint: str, prompt_tokens: int, output_tokens: int, *, chat: bool, **asked: Any) -> Load:
    from fleet.load.arrivals import Lengths
    from fleet.load.run import Load

    key = os.environ.get("GOLDENFLEET_API_KEY") or None
    lengths = Lengths(prompt_tokens, output_tokens)
    return Load(endpoint, api_key=key, lengths=lengths, chat=chat, **asked)


def _check_folder(png: Path | None) -> None:
    """A picture that cannot be written must not cost a whole load."""
    if png is not None and not png.resolve().parent.is_dir():
        raise GoldenfleetError(f"cannot write {png}: its folder does not exist", "Make the folder first.")


@contextmanager
def _opened(out: Path | None) -> Iterator[BinaryIO | None]:
    """Not buffered: what cannot be written is noticed with its own line."""
    if out is None:
        yield None
        return
    try:
        lines = out.open("wb", buffering=0)
    except OSError as error:
        raise GoldenfleetError(f"cannot write {out}: {error.strerror}", "Choose another file.") from error
    with lines:
        yield lines


def _say_plan(wanted: Load, stages: Sequence[Stage]) -> None:
    for stage in stages:
        prompts = sum(arrival.lengths.prompt_tokens for arrival in stage.arrivals)
        outputs = sum(arrival.lengths.output_tokens for arrival in stage.arrivals)
        last = stage.arrivals[-1].at_s if stage.arrivals else 0.0
        click.echo(
            f"{len(stage.arrivals)} requests to {wanted.endpoint} within {last:.1f} s: "
            f"about {prompts} prompt tokens, at most {outputs} output tokens"
        )


def _carry_out(wanted: Load, stages: Sequence[Stage], lines: BinaryIO | None) -> Result:
    from fleet.load.run import run

    with told_plainly(FAILED, "stopped before the first request"):
        return asyncio.run(run(wanted, stages, partial(click.echo, err=True), lines))


def _give(result: Result, png: Path | None, *, as_json: bool) -> None:
    from fleet.load.words import describe

    if as_json:
        told = {"model": result.model, "stopped": result.stopped, "stages": list(map(asdict, result.stages))}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(describe(result.stages))
    if png is not None:
        from fleet.load.plot import draw

        try:
            draw(result.stages, result.samples, png)
        except OSError as error:
            raise GoldenfleetError(f"cannot write {png}: {error.strerror}") from error
        click.echo(f"drawn in {png}", err=True)
    if result.unwritten is not None:
        raise GoldenfleetError(result.unwritten)
