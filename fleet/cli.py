"""The `goldenfleet` command. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from fleet import options
from fleet.ask_commands import ask
from fleet.config_commands import config
from fleet.console_commands import console
from fleet.cost_commands import cost
from fleet.errors import GoldenfleetError
from fleet.load_commands import load
from fleet.oncall_commands import notices, status, watch
from fleet.oncall_commands_doctor import doctor
from fleet.oncall_commands_drain import drain, undrain
from fleet.oncall_commands_nodes import connect, interrupt, logs
from fleet.rollout_commands import rollout
from fleet.stack_commands import destroy, emulate, preview, up
from fleet.terminal import USAGE, one_ctrl_c, overrides, told_plainly
from images.cli import images
from server.keys_cli import keys

if TYPE_CHECKING:
    from fleet.rehearsal.plan import Checked
    from fleet.rehearsal.rehearsal import Rehearsal
    from fleet.rehearsal.report import Facts, Report

NOTICED = 1
_STOPPED = "stopped; nothing is left running"
_MOST_NODES = 32  # of a tier; each takes some 100 MB and a share of this machine's cores
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EXAMPLES = """\b
Examples:
  goldenfleet rehearse
  goldenfleet rehearse --clients 200 --interrupt storm
  goldenfleet rehearse --interrupt spot:model,kill:gateway --png fleet.png
  goldenfleet rehearse --json > report.json
  goldenfleet rehearse --interrupt none --scenario scaling
  goldenfleet rehearse --control-only
  goldenfleet rehearse --interrupt none --keep

\b
Exit codes: 0 no client noticed, 1 something was lost or truncated or the rehearsal failed,
2 it cannot start as asked, 130 Ctrl-C before the report.
"""


@click.group(context_settings=_HELP)
@click.version_option(package_name="goldenfleet")
def main() -> None:
    """Golden images and a spot fleet for LLM serving that loses no request."""


main.add_command(ask)
main.add_command(config)
main.add_command(console)
main.add_command(cost)
main.add_command(images)
main.add_command(keys)
main.add_command(load)
main.add_command(connect)
main.add_command(doctor)
main.add_command(drain)
main.add_command(emulate)
main.add_command(interrupt)
main.add_command(logs)
main.add_command(notices)
main.add_command(preview)
main.add_command(rollout)
main.add_command(status)
main.add_command(undrain)
main.add_command(up)
main.add_command(watch)
main.add_command(destroy)


@main.command(epilog=_EXAMPLES)
@click.option(
    "--clients", default=40, type=click.IntRange(1, 2000), show_default=True, help="Half of them stream."
)
@click.option(
    "--duration",
    default=20.0,
    type=click.FloatRange(1, 3600),
    show_default=True,
    help="Least seconds of load; it lasts until the interruptions are over.",
)
@click.option(
    "--notice-seconds",
    default=12.0,
    type=click.FloatRange(6, 120),
    show_default=True,
    help="Real seconds that stand for the 120 of a spot notice; AWS's delays scale with it.",
)
@click.option(
    "--interrupt",
    default="default",
    show_default=True,
    metavar="WHAT",
    help="default, storm, none, or a list of spot|kill|scale-in:gateway|model.",
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="NAME",
    help="A longer story after the interruptions: rollout, scaling or spot-dry; may be given again.",
)
@click.option(
    "--gateways",
    default=2,
    type=click.IntRange(1, _MOST_NODES),
    show_default=True,
    help="Nodes of that tier.",
)
@click.option(
    "--models", default=3, type=click.IntRange(1, _MOST_NODES), show_default=True, help="Nodes of that tier."
)
@click.option(
    "--port", default=8088, type=click.IntRange(1, 65535), show_default=True, help="Of the endpoint."
)
@click.option("--seed", default=1, show_default=True, help="Of prices, prompts and think times.")
@options.stack_rehearsed
@options.changes
@options.project
@click.option("--run-dir", type=click.Path(path_type=Path), help="Keep logs and states in this new folder.")
@click.option(
    "--image",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Run one model node as a virtual machine from this disk image, baked by images bake --on local.",
)
@click.option("--control-only", is_flag=True, help="Nodes do not look for notices; control does.")
@click.option("--imds-only", is_flag=True, help="Control is not started; nodes look for notices.")
@click.option("--keep", is_flag=True, help="Leave the fleet running after the report, until Ctrl-C.")
@click.option(
    "--png", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Draw the timeline."
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def rehearse(
    config: tuple[str, ...],
    run_dir: Path | None,
    png: Path | None,
    as_json: bool,
    duration: float,
    control_only: bool,
    imds_only: bool,
    **asked: Any,
) -> None:
    """Run a whole spot fleet on this machine, take instances away, and report what clients noticed."""
    began = time.monotonic()
    with told_plainly(USAGE, _STOPPED):
        # Imported here: moto, boto3 and gRPC take seconds that --help should not.
        from fleet.rehearsal.plan import Plan, check, watchers_of

        watchers = watchers_of(control_only=control_only, imds_only=imds_only)
        checked = check(Plan(duration_s=duration, watchers=watchers, config=overrides(config), **asked))
        outputs = _Outputs(png, as_json)
        outputs.check()
        directory = _make_directory(run_dir)
    wanted = run_dir is not None or checked.plan.keep
    with told_plainly(NOTICED, _STOPPED), one_ctrl_c(), _removed_if_of_no_use(directory, wanted=wanted):
        kept_the_promise = _carry_out(checked, directory, outputs, began)
    sys.exit(0 if kept_the_promise else NOTICED)


@dataclass(frozen=True)
class _Outputs:
    png: Path | None
    as_json: bool

    def check(self) -> None:
        """A picture that cannot be written must not cost a whole rehearsal."""
        if self.png is not None and not self.png.resolve().parent.is_dir():
            raise GoldenfleetError(
                f"cannot write {self.png}: its folder does not exist", "Make the folder first."
            )

    def give(self, report: Report, facts: Facts) -> None:
        from fleet.rehearsal.words import describe

        click.echo(json.dumps(report.as_json(), indent=2) if self.as_json else describe(report))
        sys.stdout.flush()
        if self.png is not None:
            from fleet.rehearsal.timeline import draw

            draw(facts, self.png)
            click.echo(f"timeline drawn in {self.png}", err=True)


def _carry_out(checked: Checked, directory: Path, outputs: _Outputs, began: float) -> bool:
    """Whether the promise was kept."""
    from fleet.rehearsal.progress import TerminalProgress
    from fleet.rehearsal.rehearsal import Rehearsal
    from fleet.rehearsal.report import make_report

    progress = TerminalProgress(Console(stderr=True), began)
    with Rehearsal(checked, directory, progress, began) as rehearsal:
        with progress.live():
            facts = rehearsal.run()
        if checked.plan.keep:
            outputs.give(make_report(facts), facts)
            with _found_by_commands(checked, rehearsal, directory):
                _stay(rehearsal, directory, checked.models[0])
        with progress.live():
            facts = rehearsal.destroy(facts)
    report = make_report(facts)
    if not checked.plan.keep:
        outputs.give(report, facts)
    return report.kept_the_promise


@contextmanager
def _found_by_commands(checked: Checked, rehearsal: Rehearsal, directory: Path) -> Iterator[None]:
    """While inside, `--rehearsal` of other commands means this one."""
    from fleet.oncall import kept
    from fleet.rehearsal.nodes import REGION

    there = kept.Kept(
        pid=os.getpid(),
        born=kept.born(os.getpid()) or "",
        stack=checked.plan.stack,
        region=REGION,
        aws_endpoint=rehearsal.aws_endpoint,
        endpoint=rehearsal.endpoint,
        run_dir=str(directory),
        time_scale=checked.plan.time_scale,
    )
    with kept.told(there):
        yield


def _stay(rehearsal: Rehearsal, directory: Path, model: str) -> None:
    endpoint, nodes = rehearsal.endpoint, rehearsal.nodes
    emulated = f"--endpoint-url {rehearsal.aws_endpoint} --state {directory / 'state.json'}"
    chat = f'"model": "{model}", "messages": [{{"role": "user", "content": "What is a notice?"}}]'
    post = "-H 'content-type: application/json' -d"
    lines = [
        f"\nThe fleet goes on at {endpoint}, at these sizes. Try:\n",
        f"  curl -N {endpoint}/v1/chat/completions {post} '{{{chat}, \"stream\": true}}'",
        f'  curl -N {endpoint}/generate_stream {post} \'{{"inputs": "A golden image"}}\'',
        "\nNodes, each with its state on port 9090:\n",
        *(
            f"  {node.address:14} {node.tier:8} {node.purchase_option:10} {node.instance_id}"
            for node in nodes
        ),
        f"\n  curl {nodes[-1].address}:9090/state",
        "\nAs on call, from another terminal:\n",
        "  goldenfleet status --rehearsal",
        f'  goldenfleet drain {nodes[-1].instance_id} -m "a try" --wait --rehearsal',
        f"\nIts AWS, for goldenfleet preview and up:\n\n  {emulated}",
        f"\nLogs are in {directory}. Ctrl-C stops everything.",
    ]
    click.echo("\n".join(lines), err=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("stopping", err=True)


def _make_directory(asked: Path | None) -> Path:
    """Where logs and states go. Raises GoldenfleetError."""
    if asked is None:
        return Path(tempfile.mkdtemp(prefix="goldenfleet-"))
    try:
        asked.mkdir(parents=True)
    except OSError as error:
        hint = "Name a folder that does not exist yet."
        raise GoldenfleetError(f"cannot make {asked}: {error.strerror}", hint) from error
    return asked.resolve()


@contextmanager
def _removed_if_of_no_use(directory: Path, *, wanted: bool) -> Iterator[None]:
    """A folder that nobody asked for stays only if something failed."""
    try:
        yield
    except GoldenfleetError:
        click.echo(f"logs are in {directory}", err=True)
        raise
    except KeyboardInterrupt:
        if not wanted:
            shutil.rmtree(directory)
        raise
    if not wanted:
        shutil.rmtree(directory)
