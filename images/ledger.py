"""The ledger of a run: what it is about to create, has created and has removed, in a file that survives it.

Every entry is on the disk before the call that it announces goes out. So whatever a killed run left behind
stands here; that it also carries the run's tag lets another machine find it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from images.errors import RunError

Event = Literal["begun", "intend", "made", "gone", "stage", "ended"]


@dataclass(frozen=True)
class Entry:
    event: Event
    at: float
    """Seconds since the epoch."""
    kind: str = ""
    """instance, image, snapshot, key-pair, security-group, ...; empty where no resource is meant."""
    name: str = ""
    id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        filled = {key: value for key, value in vars(self).items() if value != "" and value != {}}
        return json.dumps(filled, sort_keys=True, separators=(",", ":")) + "\n"


@dataclass(frozen=True)
class Resource:
    """Something that was to be created and is not known to be gone. No id: nobody saw it being made."""

    kind: str
    name: str
    id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.id or 'perhaps never made'})"


class Ledger:
    """Append-only: one JSON object a line. Raises RunError if it cannot be read or written."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self.entries, self._sound_bytes = _read(path)

    def begun(self, **details: Any) -> None:
        self._append(Entry("begun", self._now(), details=details))

    def intend(self, kind: str, name: str, **details: Any) -> None:
        """To be called before the call that creates it."""
        self._append(Entry("intend", self._now(), kind, name, details=details))

    def made(self, kind: str, name: str, resource_id: str, **details: Any) -> None:
        self._append(Entry("made", self._now(), kind, name, resource_id, details))

    def gone(self, kind: str, name: str) -> None:
        self._append(Entry("gone", self._now(), kind, name))

    def stage(self, name: str, **details: Any) -> None:
        """This stage of the bake is done and need not be done again."""
        self._append(Entry("stage", self._now(), name=name, details=details))

    def ended(self, outcome: str) -> None:
        self._append(Entry("ended", self._now(), name=outcome))

    @property
    def standing(self) -> tuple[Resource, ...]:
        """What is, or may be, still there, oldest first."""
        return standing(self.entries)

    def find(self, kind: str, name: str) -> Resource | None:
        """The resource of that name, unless it is gone."""
        found = (resource for resource in self.standing if (resource.kind, resource.name) == (kind, name))
        return next(found, None)

    def stage_done(self, name: str) -> Entry | None:
        done = (entry for entry in reversed(self.entries) if entry.event == "stage" and entry.name == name)
        return next(done, None)

    @property
    def outcome(self) -> str:
        """How the run ended; empty while it goes on, and after a crash."""
        last = next((entry for entry in reversed(self.entries) if entry.event in ("begun", "ended")), None)
        return last.name if last is not None else ""

    def _append(self, entry: Entry) -> None:
        try:
            with self._path.open("ab") as file:
                file.truncate(self._sound_bytes)
                file.write(entry.line().encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise RunError(
                f"cannot write the ledger {self._path}: {exc.strerror}",
                "nothing is created without its entry; free space there, or choose another state directory",
            ) from exc
        self._sound_bytes += len(entry.line().encode())
        self.entries.append(entry)


def standing(entries: list[Entry]) -> tuple[Resource, ...]:
    """Fold entries into the resources that are not known to be gone."""
    found: dict[tuple[str, str], Resource] = {}
    for entry in entries:
        key = (entry.kind, entry.name)
        if entry.event == "gone":
            found.pop(key, None)
        elif entry.event in ("intend", "made"):
            before = found.get(key, Resource(*key))
            found[key] = Resource(*key, entry.id or before.id, {**before.details, **entry.details})
    return tuple(found.values())


def _read(path: Path) -> tuple[list[Entry], int]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as exc:
        raise RunError(f"cannot read the ledger {path}: {exc.strerror}") from exc
    # What follows the last newline was cut while being written, before its call went out.
    sound = content[: content.rfind(b"\n") + 1]
    return [_entry(path, number, line) for number, line in enumerate(sound.splitlines(), 1)], len(sound)


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError) as exc:
        raise RunError(f"{path}: line {number} is no ledger entry", "move the run directory away") from exc
