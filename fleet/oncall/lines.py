"""Lines of a node's log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """`at` in unix seconds."""

    at: float
    text: str

    def as_json(self) -> dict[str, Any]:
        """A line that is JSON itself stays what it is."""
        return {"at": self.at, "line": _object(self.text) or self.text}


def lines(texts: Iterable[str]) -> Iterator[Line]:
    """A line without a time of its own, such as one of a traceback, has that of the one before."""
    at = 0.0
    for text in texts:
        said = _object(text)
        if said is not None and isinstance(said.get("ts"), int | float):
            at = float(said["ts"])
        yield Line(at, text)


def _object(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
