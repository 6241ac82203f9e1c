"""`python -m images.machines`: a virtual machine of a baked image, for as long as this process lives.

The rehearsal starts its nodes so, as it starts any other process.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, get_args

import click

from images.errors import ImagesError
from images.machines.choose import choose_here
from images.machines.hardware import HOST_ALIAS, Accelerator, Forward, Hardware
from images.machines.machine import Machine
from images.machines.seed import Seed, instance_environment, write_seed
from images.machines.tools import scratch

DEFAULT_CACHE = Path("~/.local/state/goldenfleet/cache")
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


class _Forward(click.ParamType[Forward]):
    name = "HOST:GUEST"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Forward:
        host, _, guest = str(value).partition(":")
        if not (host.isdecimal() and guest.isdecimal()):
            self.fail(f"{value} is not HOST_PORT:GUEST_PORT, e.g. 8080:8080", param, ctx)
        return Forward(int(host), int(guest))


class _Endpoint(click.ParamType[tuple[str, int]]):
    name = "ADDRESS:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        address, _, port = str(value).rpartition(":")
        if not (address and port.isdecimal()):
            self.fail(f"{value} is not ADDRESS:PORT, e.g. 127.0.16.4:1338", param, ctx)
        return address, int(port)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Virtual machines on this host."""


@main.command()
@click.option("--cache", type=_DIRECTORY, default=DEFAULT_CACHE, show_default=True)
def choose(cache: Path) -> None:
    """Say which accelerator runs guests here, and why no faster one does."""
    with _reported():
        click.echo(str(choose_here(cache.expanduser())))


@main.command(
    epilog="Example: python -m images.machines run --image node.raw --address 127.0.16.4 "
    "--forward 8080:8080 --forward 9090:9090 --seed-user-data boot.sh --metadata 127.0.16.4:1338"
)
@click.option(
    "--image", type=_EXISTING, required=True, help="A disk that was baked here. It is not written to."
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="In 127.0.0.0/8; forwards listen on it."
)
@click.option(
    "--forward",
    "forwards",
    type=_Forward(),
    multiple=True,
    help="A port of the address for one of the guest's.",
)
@click.option(
    "--seed-user-data", type=_EXISTING, required=True, help="What an instance is given as its user data."
)
@click.option(
    "--environment-file",
    type=_EXISTING,
    help=f"NAME=VALUE lines: settings of this one node. 127.0.0.1 of this host is {HOST_ALIAS} in the guest.",
)
@click.option("--metadata", type=_Endpoint(), help="What the guest sees as http://169.254.169.254.")
@click.option("--instance-id", default="i-local", show_default=True)
@click.option(
    "--directory", type=_DIRECTORY, help="For console.log and the overlay; by default a temporary one."
)
@click.option("--memory-mib", default=1024, show_default=True)
@click.option(
    "--accelerator", type=click.Choice(get_args(Accelerator)), help="By default the fastest that is proved."
)
@click.option("--cache", type=_DIRECTORY, default=DEFAULT_CACHE, show_default=True)
def run(
    image: Path,
    address: str,
    forwards: tuple[Forward, ...],
    seed_user_data: Path,
    environment_file: Path | None,
    metadata: tuple[str, int] | None,
    instance_id: str,
    directory: Path | None,
    memory_mib: int,
    accelerator: Accelerator | None,
    cache: Path,
) -> None:
    """Boot a node from an image, and exit when it does, with its status.

    SIGTERM cuts its power; so does whatever else ends this process, SIGKILL included.
    """
    settings = environment_file.read_text() if environment_file is not None else ""
    vendor_data = instance_environment(settings) if settings else ""
    seed = Seed(instance_id, seed_user_data.read_text(), vendor_data)
    with _reported(), _directory(directory) as own:
        hardware = Hardware(
            disk=image.resolve(),
            directory=own,
            overlay=True,
            read_only_disks=(own / "seed.iso",),
            address=address,
            forwards=forwards,
            metadata=metadata,
            memory_mib=memory_mib,
        )
        own.mkdir(parents=True, exist_ok=True)
        write_seed(seed, own / "seed.iso")
        chosen = choose_here(cache.expanduser(), accelerator)
        signal.signal(signal.SIGTERM, _leave)
        with Machine(hardware, chosen.accelerator) as machine:
            status = machine.wait()
            if status:
                click.echo(machine.last_words(), err=True)
    sys.exit(status)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except ImagesError as exc:
        click.echo(str(exc), err=True)
        raise SystemExit(1) from exc


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with scratch("machine") as made:
        yield made


if __name__ == "__main__":
    main(prog_name="python -m images.machines")
