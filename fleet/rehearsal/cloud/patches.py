"""Changes to moto's classes that can be undone."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fleet.rehearsal.cloud.errors import MotoVersionRefused

MOTO_VERSION = "5.2.5"
_ABSENT = object()


def require_moto(found: str | None = None) -> None:
    """Raise MotoVersionRefused unless moto is the release whose private models are known to us."""
    found = found if found is not None else version("moto")
    if found != MOTO_VERSION:
        raise MotoVersionRefused(
            f"the emulated cloud is written for moto {MOTO_VERSION}, but moto {found} is installed",
            f"install moto=={MOTO_VERSION}, or port fleet/rehearsal/cloud and its contract tests",
        )


class Patches:
    """Attributes set on classes, each put back by `undo`. Setting one twice keeps the first original."""

    def __init__(self) -> None:
        self._originals: dict[tuple[Any, str], Any] = {}

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Set `owner.name` and return what plain moto has there (None where it has nothing)."""
        key = (owner, name)
        if key not in self._originals:
            self._originals[key] = vars(owner).get(name, _ABSENT)
        setattr(owner, name, value)
        return None if self._originals[key] is _ABSENT else self._originals[key]

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Set `owner.name` to what `make` makes of plain moto's."""
        key = (owner, name)
        original = self._originals.get(key, getattr(owner, name))
        self.set(owner, name, make(original))

    def undo(self) -> None:
        for (owner, name), original in self._originals.items():
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._originals.clear()
