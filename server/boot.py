"""`goldenfleet-boot`: what an instance's user data runs."""

import os

import click
import uvloop

from server.errors import SettingsError
from server.process import run
from server.settings import load_settings
from server.tier_config import read_tier_config

_role = click.option(
    "--role",
    required=True,
    type=click.Choice(["gateway", "model"]),
    help="What this instance is to the fleet.",
)
_stack = click.option("--stack", required=True, metavar="NAME", help="The Pulumi stack it belongs to.")


@click.command(
    epilog="Example: goldenfleet-boot --role model --stack rehearsal",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_role
@_stack
def main(role: str, stack: str) -> None:
    """Serve as the tier's configuration says.

    Reads the SSM parameter /goldenfleet/STACK/tier/ROLE/config; GOLDENFLEET_* of the environment has the
    last word. SIGTERM and Ctrl-C end it.
    """
    serve(role, stack, from_ssm=True)


def serve(role: str, stack: str, *, from_ssm: bool) -> None:
    """Run the server to its end, and exit with its code; 2 for settings that cannot work."""
    try:
        config = read_tier_config(stack, role) if from_ssm else {}
        settings = load_settings(role=role, stack=stack, tier_config=config, environ=os.environ)
        code = uvloop.run(run(settings))
    except SettingsError as exc:
        click.echo(f"goldenfleet-boot: {exc}", err=True)
        code = 2
    raise SystemExit(code)
