"""A request's JSON, refused before it can cost anything."""

import json
import math
from collections.abc import Mapping
from typing import Any

from server.errors import BadRequest

Json = dict[str, Any]
MAX_DEPTH = 32


def parse_object(body: bytes) -> Json:
    """The JSON object in `body`. Raises BadRequest, whose message never quotes the body."""
    try:
        value = _DECODER.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        # UnicodeDecodeError and an integer of too many digits are ValueErrors too.
        raise BadRequest("The body is not valid JSON; send one JSON object in UTF-8.") from exc
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    # With so few brackets it cannot be deeper.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def dump(value: Mapping[str, Any] | list[Any]) -> bytes:
    """Compact JSON in ASCII, so that a lone surrogate that a client sent survives."""
    return _ENCODER.encode(value).encode("ascii")


def optional_int(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"`{name}` must be an integer between {low} and {high}.", param=name)
    return value


def optional_bool(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"`{name}` must be true or false.", param=name)
    return bool(value)


def optional_number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"`{name}` must be a number.", param=name)
    try:
        return float(value)
    except OverflowError as exc:
        raise BadRequest(f"`{name}` is too large.", param=name) from exc


def string_list(body: Mapping[str, Any], name: str, most: int) -> list[str]:
    """A string, or a list of at most `most` strings; none of them empty."""
    value = body.get(name)
    if value is None:
        return []
    values = [value] if isinstance(value, str) else value
    if (
        not isinstance(values, list)
        or len(values) > most
        or not all(isinstance(v, str) and v for v in values)
    ):
        raise BadRequest(f"`{name}` must be a string or a list of at most {most} strings.", param=name)
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """1e999 is JSON, and would go on to the engine as Infinity, which is none."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


# Made once: json.loads and json.dumps make theirs anew whenever they are given an option.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
# What was parsed, or made of it, holds no circles.
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise BadRequest(f"The JSON is nested deeper than {MAX_DEPTH} levels.")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return [child for child in value.values() if isinstance(child, dict | list)]
    if isinstance(value, list):
        return [child for child in value if isinstance(child, dict | list)]
    return []
