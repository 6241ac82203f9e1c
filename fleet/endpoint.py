"""Whom `ask` and `load` talk to: a named endpoint, a rehearsal that is kept here, or the usual address."""

from __future__ import annotations

from typing import Final

import click
from click.core import ParameterSource

from fleet.errors import GoldenfleetError
from fleet.oncall import kept
from fleet.oncall.errors import Ambiguous

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
    """An endpoint and a rehearsal were named, or none of several."""

    exit_code = 2


def choose(given: str | None, *, rehearsal: bool) -> str:
    """In a command with both options. Raises TwoEndpoints, and what finding a rehearsal raises."""
    named = click.get_current_context().get_parameter_source("endpoint")
    if rehearsal and given and named is ParameterSource.COMMANDLINE:
        raise TwoEndpoints("--endpoint and --rehearsal name two", "Leave one of them out.")
    if rehearsal:
        return _kept()
    if given:
        return given
    return _kept() if kept.all_kept() else USUAL


def _kept() -> str:
    try:
        return kept.find(None).endpoint
    except Ambiguous as error:
        each = "\n".join(f"  --endpoint {one.endpoint}" for one in kept.all_kept())
        raise TwoEndpoints("several rehearsals are kept", f"Name one:\n{each}") from error
