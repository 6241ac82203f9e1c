from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fleet.policy.page import page
from fleet.policy.rules import RULES

PROJECT = Path(__file__).parents[3]


def test_the_page_is_made_of_the_rules() -> None:
    """docs/policy.md is what the rules say of themselves."""
    hint = "run: python -m fleet.policy.page > docs/policy.md"
    assert (PROJECT / "docs/policy.md").read_text() == page(), hint


def test_the_page_has_every_rule_once() -> None:
    """Also one of a new module of rules."""
    assert [rule.name for rule in RULES] == [
        line.split("`")[1] for line in page().splitlines() if line.startswith("| `")
    ]


def test_the_pages_command_writes_it() -> None:
    """As the hint says."""
    command = [sys.executable, "-m", "fleet.policy.page"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout == page()
