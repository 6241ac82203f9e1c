"""`goldenfleet cost`, as a person runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from fleet.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return lambda *arguments: CliRunner().invoke(main, ["cost", *arguments])


@pytest.mark.parametrize("stack", ["rehearsal", "dev", "stage", "prod"])
def test_every_stack_is_priced(run: Run, stack: str) -> None:
    """As JSON with every case, cheaper than all on demand and never above the worst case."""
    result = run("--stack", stack, "--json")
    assert result.exit_code == 0, result.output
    bill = json.loads(result.stdout)
    hourly = {name: case["usd_per_hour"] for name, case in bill["cases"].items()}
    assert hourly["min"] <= hourly["desired"] <= hourly["max"] <= hourly["worst"]
    assert hourly["desired"] < hourly["all_on_demand"]
    assert bill["cases"]["desired"]["usd_per_month"] == pytest.approx(730 * hourly["desired"], abs=0.1)
    assert bill["prices"]["oldest"] <= bill["prices"]["on_demand"]["date"]


def test_people_read_tiers_dates_and_the_warning(run: Run) -> None:
    """The table's date is on the first line, and its age is warned of on stderr."""
    result = run("--stack", "prod")
    assert "prices of 2026-01-19 (on demand)" in result.stdout.splitlines()[0]
    for words in ("model        instances, spot", "NAT gateways", "worst case", "saved by spot"):
        assert words in result.stdout
    assert "days old" in result.stderr


def test_an_override_is_priced(run: Run) -> None:
    """A key replaced by -c changes the bill as it would change the stack."""
    config = yaml.safe_load((Path(__file__).parents[3] / "Pulumi.prod.yaml").read_text())["config"]
    tiers = config["goldenfleet:tiers"]
    tiers[1]["purchase"]["instanceTypes"] = ["g6.xlarge", "g4dn.metal"]
    result = run("--stack", "dev", "-c", f"goldenfleet:tiers={json.dumps(tiers)}")
    assert result.exit_code == 1
    assert "no price for g4dn.metal in the table of us-east-1" in result.stderr


def test_a_region_without_prices_is_refused(run: Run) -> None:
    """Never another region's prices in its place."""
    result = run("--stack", "dev", "-c", "aws:region=eu-west-9")
    assert result.exit_code == 1
    assert "no table of prices for eu-west-9" in result.stderr


def test_live_without_credentials_says_what_is_missing(run: Run) -> None:
    """By the exit code of its own, and no trace of botocore."""
    result = run("--stack", "prod", "--live")
    assert result.exit_code == 3
    assert "Unable to locate credentials" in result.stderr
    assert "Traceback" not in result.output


def test_an_override_that_is_none_is_refused(run: Run) -> None:
    """KEY=JSON, with a namespace."""
    result = run("--stack", "prod", "-c", "tiers")
    assert result.exit_code == 2
    assert "'tiers' is not KEY=JSON" in result.stderr
