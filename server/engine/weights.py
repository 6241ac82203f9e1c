"""The committed model: weights.npz and tokenizer.json, trusted only by the SHA-256 in record.json."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from server.engine.config import MODEL_ID, ModelShape
from server.engine.errors import WeightsError
from server.engine.tokenizer import Tokenizer

HERE = Path(__file__).parent
_HINT = "restore the committed files, or make them anew with scripts/make-weights"

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class TrainedModel:
    """`fingerprint` names the weights: one fingerprint, one greedy text on one kind of processor."""

    shape: ModelShape
    weights: dict[str, Matrix]
    tokenizer: Tokenizer
    fingerprint: str


def load(folder: Path = HERE) -> TrainedModel:
    """Raises WeightsError when a file is missing, unreadable, or not the one that the record names."""
    try:
        record = json.loads(_read(folder / "record.json"))
        shape, digests = ModelShape(**record["shape"]), dict(record["sha256"])
        merges = json.loads(_read_checked(folder, "tokenizer.json", digests))["merges"]
        weights = _matrices(_read_checked(folder, "weights.npz", digests))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
        raise WeightsError(f"cannot read the model in {folder}: {exc!r}; {_HINT}") from exc
    tokenizer = Tokenizer([(left, right) for left, right in merges])
    return TrainedModel(shape, weights, tokenizer, fingerprint=f"{MODEL_ID}-{digests['weights.npz'][:8]}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise WeightsError(f"cannot read {path}: {exc.strerror}; {_HINT}") from exc


def _read_checked(folder: Path, name: str, digests: dict[str, str]) -> bytes:
    content = _read(folder / name)
    found = hashlib.sha256(content).hexdigest()
    if found != digests[name]:
        raise WeightsError(f"{folder / name} has SHA-256 {found}, record.json says {digests[name]}; {_HINT}")
    return content


def _matrices(archive: bytes) -> dict[str, Matrix]:
    with np.load(io.BytesIO(archive), allow_pickle=False) as stored:
        return {name: np.ascontiguousarray(stored[name], dtype=np.float32) for name in stored}
