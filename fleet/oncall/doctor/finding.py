"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    what: str
    means: str = ""
    do: str = ""
    """A command, or what else to do."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
