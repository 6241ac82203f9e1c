"""`goldenfleet config`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from fleet.cli import main
from fleet.stack.explain_words import page


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["config", *arguments])


@pytest.mark.parametrize("stack", ["rehearsal", "dev", "stage", "prod"])
def test_good_settings_are_told_so(stack: str) -> None:
    """With the sizes of the tiers, and without a word to AWS."""
    checked = run("check", "--stack", stack)
    assert checked.exit_code == 0
    assert f"The settings of {stack} are good: gateway " in checked.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--stack", "nowhere"), "Pulumi.nowhere.yaml"),
        (("-c", 'goldenfleet:network={"zones": 1}'), "goldenfleet:network.zones: must be at least 2, not 1"),
        (("-c", "goldenfleet:production=maybe"), "goldenfleet:production"),
        (("-c", "goldenfleet:tiers={}"), "goldenfleet:tiers is a mapping, and is a list now"),
        (("-c", "zones=1"), "'zones' is not KEY=JSON"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: tuple[str, ...], says: str) -> None:
    """The setting is named, and the exit code is 2."""
    refused = run("check", "--stack", "prod", *arguments)
    assert refused.exit_code == 2
    assert says in refused.output
    assert "Traceback" not in refused.output


def test_explain_prints_every_setting() -> None:
    """As text, as JSON with a stack's own values, and as the page."""
    text = run("explain")
    assert text.exit_code == 0
    assert "goldenfleet:tiers.NAME.purchase.onDemandBase" in text.output
    assert "Change it: " in text.output
    told = {
        entry["setting"]: entry for entry in json.loads(run("explain", "--json", "--stack", "prod").output)
    }
    assert told["goldenfleet:network.zones"]["default"] == 3
    assert told["goldenfleet:network.nat"]["here"] == "per-zone"
    assert run("explain", "--markdown").output == page()
