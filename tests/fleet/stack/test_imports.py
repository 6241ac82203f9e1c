"""What is imported ahead of the program."""

from __future__ import annotations

import re
from pathlib import Path

from fleet.stack.imports import AHEAD

PROGRAM = Path(__file__).parents[3] / "fleet" / "stack"


def test_all_that_the_program_takes_of_the_sdk_is_imported_ahead() -> None:
    """A module that is missing there is imported by every run, and one too many costs memory."""
    sources = "\n".join(path.read_text() for path in PROGRAM.glob("*.py"))
    used = re.findall(r"\baws\.([a-z0-9_]+)\.[A-Z]|pulumi_aws\.([a-z0-9_]+) import", sources)
    assert {f"pulumi_aws.{direct or named}" for direct, named in used} == set(AHEAD)
