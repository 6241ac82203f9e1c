"""A bake may end at any call of AWS, and nothing of it remains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
MUTATIONS = {
    "ImportKeyPair",
    "CreateSecurityGroup",
    "RunInstances",
    "CreateImage",
    "CopyImage",
    "CreateVolume",
    "PutParameter",
}


def ended(how: str, tmp_path: Path) -> list[dict[str, Any]]:
    """What remained after a bake that ended at every moment in turn."""
    out = tmp_path / "moments"
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.images.aws.crashes", how, str(out)],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("how", "at_least"),
    [("killed", 90), ("killed-elsewhere", 20), ("interrupted", 90), ("interrupted-twice", 30)],
)
def test_nothing_remains(how: str, at_least: int, tmp_path: Path) -> None:
    """Killed or interrupted before and after every call of AWS, a bake leaves only what is published."""
    moments = ended(how, tmp_path)
    assert len(moments) >= at_least
    assert [moment for moment in moments if moment["remains"]] == []
    if how == "killed":
        named = {moment["moment"] for moment in moments}
        assert {f"{when} 1 {call}" for call in MUTATIONS for when in ("before", "after")} <= named
