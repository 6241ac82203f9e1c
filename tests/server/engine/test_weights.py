"""Only the recorded model is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from server.engine import weights
from server.engine.errors import WeightsError

FILES = ("record.json", "tokenizer.json", "weights.npz")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        shutil.copy(weights.HERE / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["tokenizer.json", "weights.npz"])
def test_changed_files_are_refused(folder, name):
    """One byte more in a recorded file: the error names the file, both digests' meaning, and the way out."""
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(WeightsError, match=rf"{name} has SHA-256 .*record\.json says.*make-weights"):
        weights.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_refused(folder, name):
    """A missing file is named."""
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=rf"cannot read .*{name}: No such file"):
        weights.load(folder)


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"shape": {"vocab": 1}, "sha256": {}}'])
def test_a_broken_record_is_refused(folder, record):
    """A record that cannot be read is an error of ours, not a traceback from JSON."""
    (folder / "record.json").write_text(record)
    with pytest.raises(WeightsError, match="cannot read the model in"):
        weights.load(folder)


def test_an_archive_that_is_none_is_refused(folder):
    """A file with the right digest and the wrong content is refused as well."""
    (folder / "weights.npz").write_bytes(b"PK\x03\x04 not an archive")
    record = json.loads((folder / "record.json").read_text())
    record["sha256"]["weights.npz"] = hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(WeightsError, match="cannot read the model in"):
        weights.load(folder)


def test_the_record_is_of_the_committed_corpus():
    """The weights were trained on the corpus that is committed beside them."""
    record = json.loads((weights.HERE / "record.json").read_text())
    digest = hashlib.sha256((weights.HERE / "corpus.md").read_bytes()).hexdigest()
    assert record["training"]["corpus_sha256"] == digest
