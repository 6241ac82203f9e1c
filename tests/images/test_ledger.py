"""The ledger: what a killed run has left, as far as its file tells."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from images.errors import RunError
from images.ledger import Ledger


def ledger(path: Path) -> Ledger:
    return Ledger(path, lambda: 1.0)


def test_intent_is_on_the_disk_before_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When `intend` returns, its entry was synced to the disk as it stands in the file."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append((tmp_path / "l").read_text())

    monkeypatch.setattr(os, "fsync", fsync)
    ledger(tmp_path / "l").intend("instance", "builder", token="t")
    assert synced == [(tmp_path / "l").read_text()]
    assert json.loads(synced[0])["details"] == {"token": "t"}


def test_standing_is_what_is_not_gone(tmp_path: Path) -> None:
    """What was intended or made and is not gone stands, with the id once that is known."""
    kept = ledger(tmp_path / "l")
    kept.intend("instance", "builder", token="t")
    kept.intend("key-pair", "key")
    kept.made("key-pair", "key", "key-1")
    kept.intend("image", "image")
    kept.gone("image", "image")
    again = ledger(tmp_path / "l")
    assert [(each.kind, each.id) for each in again.standing] == [("instance", ""), ("key-pair", "key-1")]
    assert again.standing[0].details == {"token": "t"}
    assert "perhaps never made" in str(again.standing[0])


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_torn_last_line_is_no_entry(tmp_path: Path, cut: int) -> None:
    """A line cut while it was written is not read, and does not spoil what is written after it."""
    path = tmp_path / "l"
    first = ledger(path)
    first.intend("instance", "builder")
    first.intend("image", "image")
    path.write_bytes(path.read_bytes()[:-cut])
    again = ledger(path)
    assert [each.kind for each in again.standing] == ["instance"]
    again.intend("volume", "disk")
    assert [each.kind for each in ledger(path).standing] == ["instance", "volume"]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"event":"made","what":1}'])
def test_a_spoilt_ledger_is_refused(tmp_path: Path, line: str) -> None:
    """A whole line that is no entry is refused with its number: guessing could leak what it told of."""
    path = tmp_path / "l"
    ledger(path).intend("instance", "builder")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RunError, match="line 2"):
        ledger(path)


def test_an_unwritable_ledger_stops_the_run(tmp_path: Path) -> None:
    """Where the entry cannot be written the error comes before anything is created."""
    with pytest.raises(RunError, match="cannot write"):
        ledger(tmp_path / "missing" / "l").intend("instance", "builder")


def test_outcome_is_that_of_the_last_end(tmp_path: Path) -> None:
    """A run has no outcome until it ends, and a stage that was done is found with its details."""
    kept = ledger(tmp_path / "l")
    kept.begun(recipe="r")
    assert kept.outcome == ""
    kept.stage("clean")
    kept.stage("checked", boot_seconds=1.5)
    kept.ended("parked")
    found: Any = ledger(tmp_path / "l").stage_done("checked")
    assert found.details == {"boot_seconds": 1.5}
    assert ledger(tmp_path / "l").outcome == "parked"
    assert kept.stage_done("released") is None
