"""`goldenfleet-boot`: what an instance's user data runs."""

import asyncio
import gc
import os
from collections.abc import Mapping

import click
import uvloop

from server.errors import SettingsError
from server.process import run
from server.settings import Settings, early_settings, load_settings
from server.tier_config import find_region, read_tier_config

# New objects before a look at the young, and so many looks before one at the older. The default of 700 is a
# few requests' worth, most of which is alive.
_COLLECT_AFTER = (5_000, 10, 10)

_role = click.option(
    "--role",
    required=True,
    type=click.Choice(["gateway", "model"]),
    help="What this instance is to the fleet.",
)
_tier = click.option("--tier", metavar="NAME", help="Its tier, by default the role's name.")
_stack = click.option("--stack", required=True, metavar="NAME", help="The Pulumi stack it belongs to.")


@click.command(
    epilog="Example: goldenfleet-boot --role model --tier llama --stack rehearsal",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_role
@_tier
@_stack
def main(role: str, tier: str | None, stack: str) -> None:
    """Serve as the tier's configuration says.

    Reads the SSM parameter /goldenfleet/STACK/tier/TIER/config; GOLDENFLEET_* of the environment has the
    last word. SIGTERM and Ctrl-C end it.
    """
    serve(role, tier, stack, from_ssm=True)


def serve(role: str, tier: str | None, stack: str, *, from_ssm: bool) -> None:
    """Run the server to its end, and exit with its code; 2 for settings that cannot work."""
    try:
        read = _settings_of_tier if from_ssm else _settings
        settings = read(role, tier or role, stack, os.environ)
        _collect_less()
        code = uvloop.run(run(settings))
    except SettingsError as exc:
        click.echo(f"goldenfleet-boot: {exc}", err=True)
        code = 2
    raise SystemExit(code)


def _collect_less() -> None:
    """What is loaded by now stays: looking through it again and again took a seventh of a gateway's time."""
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _settings(role: str, tier: str, stack: str, environ: Mapping[str, str]) -> Settings:
    return load_settings(role=role, tier=tier, stack=stack, tier_config={}, environ=environ)


def _settings_of_tier(role: str, tier: str, stack: str, environ: Mapping[str, str]) -> Settings:
    region, imds_endpoint = early_settings(environ)
    region = region or asyncio.run(find_region(imds_endpoint))
    config = read_tier_config(stack, tier, region)
    return load_settings(
        role=role,
        tier=tier,
        stack=stack,
        tier_config=config,
        environ={"AWS_REGION": region, **environ},
    )
