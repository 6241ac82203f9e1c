"""Whom `ask` and `load` talk to: a named endpoint, a rehearsal that is kept here, or the usual address."""

from __future__ import annotations

from typing import Final

import click
from click.core import ParameterSource

from fleet.errors import GoldenfleetError
from fleet.oncall import kept

USUAL: Final = "http://127.0.0.1:8088"

option = click.option(
    "--endpoint",
    envvar="GOLDENFLEET_ENDPOINT",
    metavar="URL",
    help=f"Whom to ask; also GOLDENFLEET_ENDPOINT.  [default: a kept rehearsal, else {USUAL}]",
)
rehearsal_option = click.option(
    "--rehearsal", is_flag=True, help="Ask the rehearsal that is kept on this machine."
)


class TwoEndpoints(GoldenfleetError):
    """An endpoint and a rehearsal were named."""

    exit_code = 2


def choose(given: str | None, *, rehearsal: bool) -> str:
    """In a command with both options. Raises TwoEndpoints, and what finding a rehearsal raises."""
    named = click.get_current_context().get_parameter_source("endpoint")
    if rehearsal and given and named is ParameterSource.COMMANDLINE:
        raise TwoEndpoints("--endpoint and --rehearsal name two", "Leave one of them out.")
    if rehearsal:
        return kept.find(None).endpoint
    if given:
        return given
    return kept.find(None).endpoint if kept.all_kept() else USUAL
