"""`python -m server`: one server process without a tier's configuration, for trying things out."""

import click

from server.boot import serve


@click.command(
    epilog="Example: GOLDENFLEET_NODES=static:127.0.0.1:8081 python -m server --role gateway",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--role",
    required=True,
    type=click.Choice(["gateway", "model"]),
    help="What this process is to the fleet.",
)
@click.option("--tier", metavar="NAME", help="Its tier, by default the role's name.")
@click.option(
    "--stack", default="local", show_default=True, metavar="NAME", help="Name of its stack, for logs."
)
def main(role: str, tier: str | None, stack: str) -> None:
    """Serve with settings from GOLDENFLEET_* of the environment only: nothing is read from AWS."""
    serve(role, tier, stack, from_ssm=False)


if __name__ == "__main__":
    main(prog_name="python -m server")
