"""How commands find a rehearsal that is kept on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from fleet.oncall import kept
from fleet.oncall.errors import Ambiguous, NothingKept
from fleet.oncall.kept import Kept, all_kept, born, find, folder, told


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def mine(**fields) -> Kept:
    own = Kept(
        pid=os.getpid(),
        born=born(os.getpid()) or "",
        stack="rehearsal",
        region="us-east-1",
        aws_endpoint="http://127.0.0.1:1",
        endpoint="http://127.0.0.1:2",
        run_dir="/nowhere",
        time_scale=0.1,
    )
    return replace(own, **fields)


def test_nothing_is_kept():
    """Exit code 6, and how to start one."""
    with pytest.raises(NothingKept, match="no rehearsal is kept") as raised:
        find(None)
    assert "goldenfleet rehearse" in raised.value.hint


def test_what_is_kept_is_found_while_it_is():
    """By its stack or without a name, and not afterwards."""
    with told(mine()):
        assert find(None) == find("rehearsal") == mine()
        with pytest.raises(NothingKept, match="there is rehearsal"):
            find("prod")
    assert all_kept() == []
    assert [*folder().iterdir()] == []


@pytest.mark.parametrize("fields", [{"pid": 2**22 + 1}, {"born": "1"}])
def test_a_rehearsal_that_was_killed_is_passed_over(fields):
    """Its file stays, but its process is gone, or another has its number."""
    with told(mine(**fields)), pytest.raises(NothingKept):
        find(None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "pid": 1}'])
def test_a_file_that_cannot_be_read_is_passed_over(text):
    """Half written, of another release, or somebody else's."""
    folder().mkdir(parents=True)
    (folder() / "1.json").write_text(text)
    assert all_kept() == []


def test_of_several_one_must_be_named():
    """Exit code 2, with each of them; a stack's name decides."""
    with told(mine()):
        other = {**json.loads((folder() / f"{os.getpid()}.json").read_text()), "stack": "other"}
        (folder() / "9.json").write_text(json.dumps(other))
        with pytest.raises(Ambiguous, match="other"):
            find(None)
        assert find("other").stack == "other"


def test_a_relative_state_folder_is_ignored(monkeypatch):
    """As the XDG base directory specification wants it."""
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    assert kept.folder().is_absolute()
    assert kept.folder().parts[-4:] == (".local", "state", "goldenfleet", "rehearsals")
