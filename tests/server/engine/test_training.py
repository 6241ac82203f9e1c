"""The model can be made anew from the committed text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from server.engine import weights

SINGLE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def trained_twice(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("trained") for _ in range(2)]
    short = ["--steps", "2", "--rows", "1", "--length", "64"]
    command = [sys.executable, "-m", "server.engine.training", *short, "--out"]
    running = [
        subprocess.Popen([*command, folder], env=os.environ | SINGLE, stderr=subprocess.DEVNULL)
        for folder in folders
    ]
    assert [process.wait(timeout=50) for process in running] == [0, 0]
    return folders


def test_training_is_deterministic(trained_twice):
    """Two trainings with one seed write the same bytes, weights and record alike."""
    first, second = trained_twice
    for name in ("weights.npz", "tokenizer.json", "record.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_what_is_trained_can_be_loaded(trained_twice):
    """The engine accepts the model with its record, in the committed model's shape."""
    assert weights.load(trained_twice[0]).shape == weights.load().shape


def test_the_committed_tokenizer_is_the_corpus_s(trained_twice):
    """The merges are a function of the corpus: the committed ones are learnt again."""
    committed = (weights.HERE / "tokenizer.json").read_bytes()
    assert (trained_twice[0] / "tokenizer.json").read_bytes() == committed
