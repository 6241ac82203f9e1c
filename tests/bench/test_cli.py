import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.run import SECTIONS

LIMIT_S = 50


def test_help_names_every_section_and_exit_code() -> None:
    """A person finds what to type without reading the code."""
    said = CliRunner().invoke(main, ["--help"], terminal_width=200).output

    assert "Examples:" in said
    assert "Exit codes:" in said
    assert all(name in said for name in SECTIONS)


@pytest.mark.parametrize("option", ["--gateways", "--only"])
def test_an_unknown_name_is_a_usage_error(option: str) -> None:
    """It says which names there are."""
    result = CliRunner().invoke(main, [option, "nonsense"])

    assert result.exit_code == 2
    assert "'nonsense' is not one of" in result.output


def test_a_run_measures_and_ends_by_itself(tmp_path: Path) -> None:
    """A whole run of what needs no gateway: tables, JSON, exit 0, no process left."""
    figures = tmp_path / "figures.json"
    argv = [sys.executable, "-m", "bench", "--quick", "--gateways", "direct", "--only", "unary"]
    run = subprocess.run([*argv, "--json", str(figures)], capture_output=True, text=True, timeout=LIMIT_S)

    assert run.returncode == 0, run.stderr
    assert "| direct" in run.stdout
    assert "load average" in run.stdout
    kept = json.loads(figures.read_text())
    assert kept["runs"]["unary"]["direct"][0]["per_s"] > 0


def test_a_run_that_passes_its_limit_says_so(tmp_path: Path) -> None:
    """It ends with an error, and what it has measured is still written."""
    figures = tmp_path / "figures.json"
    argv = [sys.executable, "-m", "bench", "--gateways", "direct", "--only", "paced", "--limit-s", "1"]
    run = subprocess.run([*argv, "--json", str(figures)], capture_output=True, text=True, timeout=LIMIT_S)

    assert run.returncode == 1
    assert "the run passed its limit of 1 s" in run.stderr
    assert json.loads(figures.read_text())["machine"]
