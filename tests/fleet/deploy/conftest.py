"""A pulumi that replays an event log, and a project to run it in."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE_SECONDS = 60
HERE = Path(__file__).parent
STACK_FILE = "config:\n  goldenfleet:production: true\nencryptionsalt: v1:salt\n"


@dataclass
class FakePulumi:
    """The one on the PATH. It writes the events of `log` and ends with `code`, or waits for Ctrl-C."""

    folder: Path
    project: Path
    begun: int
    """Read end of a pipe that a waiting one writes to."""

    def plays(self, log: str, *, code: int = 0, waits: bool = False, says: str = "") -> None:
        lines = (HERE / "events" / f"{log}.jsonl").read_text() if log else ""
        play = {"lines": lines, "code": code, "waits": waits, "says": says}
        (self.folder / "play.json").write_text(json.dumps(play))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What it was started with: words, environment, and the file of --config-file."""
        seen = self.folder / "calls.jsonl"
        return [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []

    def wait_until_begun(self) -> None:
        """Until a waiting one has written its events."""
        ready, _, _ = select.select([self.begun], [], [], DEADLINE_SECONDS)
        assert ready, "it never began"


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePulumi]:
    folder, project = tmp_path / "bin", tmp_path / "project"
    folder.mkdir()
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: goldenfleet\nruntime: python\n")
    (project / "Pulumi.prod.yaml").write_text(STACK_FILE)
    executable = folder / "pulumi"
    source = (HERE / "fake_pulumi.py").read_text()
    executable.write_text(f"#!{sys.executable}\n{source}")
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    os.mkfifo(folder / "begun")
    begun = os.open(folder / "begun", os.O_RDONLY | os.O_NONBLOCK)
    yield FakePulumi(folder, project, begun)
    os.close(begun)
