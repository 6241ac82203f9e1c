"""Typed reading of a request's JSON fields; every complaint names its field."""

from __future__ import annotations

import json
import math
from typing import Any

from server.engine.errors import RequestError


def parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise RequestError("The body is not valid JSON; send a JSON object in UTF-8.") from exc
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object.")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def wrong(name: str, expected: str) -> RequestError:
    return RequestError(f"'{name}' must be {expected}.", param=name)


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(name, "an integer")
    if value < low or (high is not None and value > high):
        raise wrong(name, f"at least {low}" if high is None else f"between {low} and {high}")
    return value


class Fields:
    """A JSON object whose absent and null fields take their defaults."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def integer(self, name: str, default: int, low: int, high: int | None = None) -> int:
        value = self.get(name)
        return default if value is None else integer(value, self._path + name, low, high)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise wrong(self._path + name, "a number")
        if not low <= value <= high:
            raise wrong(self._path + name, f"between {low:g} and {high:g}")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(self._path + name, "true or false")
        return value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise wrong(self._path + name, "a string")
        return value

    def object(self, name: str) -> Fields:
        value = self.get(name)
        if value is None:
            return Fields({})
        if not isinstance(value, dict):
            raise wrong(self._path + name, "an object")
        return Fields(value, f"{self._path}{name}.")

    def strings(self, name: str, most: int) -> tuple[str, ...]:
        """One string or a list of at most `most`, none of them empty."""
        value = self.get(name)
        listed = [] if value is None else [value] if isinstance(value, str) else value
        if (
            not isinstance(listed, list)
            or len(listed) > most
            or not all(isinstance(s, str) and s for s in listed)
        ):
            raise wrong(self._path + name, f"a non-empty string or a list of at most {most} of them")
        return tuple(listed)
