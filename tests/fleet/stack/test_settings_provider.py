"""Settings of pulumi-aws in a stack's file."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from fleet.stack.settings import Settings
from fleet.stack.settings_files import read_config
from fleet.stack.settings_provider import KNOWN
from tests.fleet.stack.conftest import PROJECT
from tests.fleet.stack.given import GOOD, changed, refusal


def test_what_is_known_is_what_pulumi_aws_knows() -> None:
    """All of the installed version's, but for the former name of one."""
    found = importlib.util.find_spec("pulumi_aws")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "config" / "vars.py").read_text()
    assert set(re.findall(r"__config__\.get(?:_\w+)?\('(\w+)'\)", text)) == KNOWN - {"assumeRole"}


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("aws:regoin", "aws:regoin: there is no such setting: did you mean aws:region?"),
        ("aws:Region", "aws:Region: there is no such setting: did you mean aws:region?"),
        ("aws:defaulttags", "aws:defaulttags: there is no such setting: did you mean aws:defaultTags?"),
        ("aws:zzz", "aws:zzz: there is no such setting\n"),
    ],
)
def test_a_name_that_pulumi_aws_does_not_know_is_refused(key: str, says: str) -> None:
    """Else the environment's region would count; it is listed beside mistakes of other settings."""
    assert says in refusal({**GOOD, key: "eu-west-1"})
    both = refusal({**changed("colour", "red"), key: "eu-west-1"})
    assert says in both
    assert "goldenfleet:colour: there is no such setting" in both


def test_settings_of_the_provider_and_of_others_are_let_be() -> None:
    """As are other namespaces, which are nobody's here."""
    more = {
        "aws:region": "eu-west-1",
        "aws:profile": "me",
        "aws:defaultTags": {"tags": {}},
        "other:regoin": 1,
    }
    assert Settings.from_config("dev", {**GOOD, **more}) == Settings.from_config("dev", GOOD)


@pytest.mark.parametrize("production", [True, "true"])
@pytest.mark.parametrize("region", [{}, {"aws:region": ""}, {"aws:region": None}])
def test_production_names_its_region(production: object, region: dict[str, str | None]) -> None:
    """In one line, however production is spelled; elsewhere it may be left out."""
    config = read_config(PROJECT / "Pulumi.prod.yaml") | {"goldenfleet:production": production}
    assert Settings.from_config("prod", config).production
    del config["aws:region"]
    said = refusal(config | region)
    (line,) = [each for each in said.splitlines() if each.startswith("  ")]
    assert line == "  aws:region is missing: in production the stack's file names it, not the environment"
    assert Settings.from_config("dev", {**GOOD, **region})
