"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from fleet.cli import main

VARIABLE = "GOLDENFLEET_STACK"


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        yield " ".join([*path, name]), command


def stack_options() -> dict[str, click.Option]:
    return {
        name: option
        for name, command in commands(main)
        for option in command.params
        if isinstance(option, click.Option) and "--stack" in option.opts
    }


def run(*words: str, **environment: str | None) -> Result:
    environment = {VARIABLE: None, "AWS_ENDPOINT_URL": None, **environment}
    return CliRunner().invoke(main, list(words), env=environment)


def test_every_command_hears_the_environments_stack() -> None:
    """And says so: none means another stack than the others do."""
    found = stack_options()
    assert {"up", "destroy", "rehearse", "cost", "config check", "images promote", "drain"} <= found.keys()
    deaf = {name for name, option in found.items() if option.envvar != VARIABLE}
    silent = {name for name, option in found.items() if VARIABLE not in (option.help or "")}
    assert (deaf, silent) == (set(), set())


@pytest.mark.parametrize("act", ["preview", "up", "destroy"])
@pytest.mark.parametrize("endpoint_url", [None, "https://sqs.us-east-1.amazonaws.com"])
def test_no_stack_is_guessed_on_aws(act: str, endpoint_url: str | None) -> None:
    """The command ends before Pulumi is looked for, and names both ways to name one."""
    refused = run(act, "--engine", "pulumi", AWS_ENDPOINT_URL=endpoint_url)
    assert refused.exit_code == 2
    assert f"on AWS no stack is guessed: give --stack NAME, or set {VARIABLE}" in refused.stderr


@pytest.mark.parametrize("words", [("config", "check"), ("cost",)])
def test_nobody_is_told_of_a_stack_that_they_did_not_name(words: tuple[str, ...]) -> None:
    """Good settings, or a price, of another stack would be taken for one's own."""
    refused = run(*words)
    assert (refused.exit_code, "Missing option '--stack'" in refused.stderr) == (2, True)
    assert run(*words, GOLDENFLEET_STACK="stage").exit_code == 0


@pytest.mark.parametrize(
    ("environments", "words", "meant"),
    [
        (None, (), "rehearsal"),
        ("", (), "rehearsal"),
        ("stage", (), "stage"),
        ("stage", ("--stack", "dev"), "dev"),
    ],
)
def test_the_environments_stack_is_the_one_that_is_deleted(
    environments: str | None, words: tuple[str, ...], meant: str
) -> None:
    """Never the rehearsal's in its place; what is given by --stack counts more."""
    asked = run("destroy", "--endpoint-url", "http://127.0.0.1:1", *words, GOLDENFLEET_STACK=environments)
    assert (asked.exit_code, f"Delete everything of stack {meant}?" in asked.stderr) == (8, True)
