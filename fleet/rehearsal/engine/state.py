"""The state file: what exists, and what was about to.

It is rewritten after every step by renaming a finished file over it: a killed process leaves the step before
or the step after, and never a torn file. It outlives a process's death and not a loss of power, as does the
emulated cloud that it tells of.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

from fleet.rehearsal.engine.errors import StateError, StateLockedError

_VERSION = 1
_KEY_BYTES = 32


@dataclass(frozen=True)
class Record:
    """One resource. While `pending` it was about to be made, and may or may not exist."""

    urn: str
    type: str
    name: str
    custom: bool
    parent: str = ""
    id: str = ""
    physical: str = ""
    mark: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    dependencies: tuple[str, ...] = ()
    protect: bool = False
    retain: bool = False
    pending: bool = False
    external: bool = False
    """Read and not made: never changed, never deleted."""

    @cached_property
    def line(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


class State:
    """Records by URN; `replaced` ones wait to be deleted. Safe to use from several threads."""

    def __init__(self, path: Path, endpoint: str | None) -> None:
        """Raises StateError for a file that cannot be read or that tells of another cloud."""
        self._path, self._endpoint = path, endpoint
        self._lock = RLock()
        document = _read(path)
        self._records = {item["urn"]: _record(item) for item in document.get("resources", [])}
        self._replaced = [_record(item) for item in document.get("replaced", [])]
        self._refuse_other_cloud(document.get("endpoint"))

    @property
    def records(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._records.values())

    @property
    def replaced(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._replaced)

    def get(self, urn: str) -> Record | None:
        with self._lock:
            return self._records.get(urn)

    def put(self, record: Record) -> None:
        with self._lock:
            if self._records.get(record.urn) != record:
                self._records[record.urn] = record
                self._save()

    def rename(self, old: str, new: Record) -> None:
        with self._lock:
            self._records.pop(old)
            self._records[new.urn] = new
            self._save()

    def supersede(self, new: Record) -> None:
        """Put a replacement in the place of the old one, which is then to be deleted."""
        with self._lock:
            self._replaced.append(self._records.pop(new.urn))
            self._records[new.urn] = new
            self._save()

    def drop(self, record: Record) -> None:
        with self._lock:
            if record in self._replaced:
                self._replaced.remove(record)
            else:
                self._records.pop(record.urn, None)
            self._save()

    def _save(self) -> None:
        resources = ",\n".join(record.line for record in self._records.values())
        replaced = ",\n".join(record.line for record in self._replaced)
        endpoint = json.dumps(self._endpoint)
        text = f'{{"version": {_VERSION}, "endpoint": {endpoint},\n"resources": [\n{resources}\n],\n'
        _write(self._path, f'{text}"replaced": [\n{replaced}\n]}}\n')

    def _refuse_other_cloud(self, endpoint: str | None) -> None:
        if (self._records or self._replaced) and endpoint != self._endpoint:
            raise StateError(
                f"{self._path} tells of resources at {endpoint or 'AWS'}, not at {self._endpoint or 'AWS'}",
                "Give the endpoint that made them; if that cloud is gone, delete the file.",
            )


def _record(item: Mapping[str, Any]) -> Record:
    return replace(Record(**item), dependencies=tuple(item["dependencies"]))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise StateError(
            f"{path} cannot be read: {exc}", "Restore it, or delete it with its resources."
        ) from exc
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise StateError(f"{path} is no state of version {_VERSION}", "Give another path.")
    return document


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    except OSError as exc:
        raise StateError(f"{path} cannot be written: {exc}", "Make room, or give another path.") from exc


def digest_key(path: Path) -> bytes:
    """The key of the secrets' digests, kept beside the state and not in it, readable by its owner only."""
    file = path.with_name(f"{path.name}.key")
    try:
        return file.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(_KEY_BYTES)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(key)
    return key


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One run at a time. The system frees the lock with the process. Raises StateLockedError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StateLockedError(f"another run is using {path}", "Wait until it has ended.") from exc
        yield
