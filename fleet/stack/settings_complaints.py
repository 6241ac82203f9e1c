"""What is wrong with a setting, in words for whoever wrote it: not in those of the library that found it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

ROLES = ("gateway", "model")

_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}
_LENGTHS = {"too_short": ("min_length", "at least"), "too_long": ("max_length", "at most")}
_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text, in quotes where YAML would read something else",
    "tuple": "a list",
    "mapping": "a group of settings",
    "dict": "a group of settings",
    "model": "a group of settings",
    "ip_v4_network": "a network such as 10.0.0.0/16, of which all bits after its prefix are 0",
}
_MUST_BE = "must be "


def complaint(items: Sequence[Any], known: Sequence[str]) -> str:
    """Of one setting. There are several `items` where it may be one of several things and is none of them."""
    said = [_said(item, known) for item in items]
    given = f", not {_input(items[0])}"
    if len(said) == 1 or not all(each.startswith(_MUST_BE) and each.endswith(given) for each in said):
        return "; ".join(dict.fromkeys(said))
    choices = dict.fromkeys(each.removeprefix(_MUST_BE).removesuffix(given) for each in said)
    return f"{_MUST_BE}{', or '.join(choices)}{given}"


def _said(item: Any, known: Sequence[str]) -> str:
    match item["type"]:
        case "extra_forbidden":
            return f"there is no such setting{meant(str(item['loc'][-1]), known)}"
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"role is missing: set it to {' or '.join(ROLES)}"
        case "union_tag_invalid":
            return f"role must be {' or '.join(ROLES)}, not {item['ctx']['tag']!r}"
        case "value_error":
            return str(item["ctx"]["error"])
        case _:
            return _must(item["type"], item.get("ctx", {}), item)


def _must(kind: str, context: Mapping[str, Any], item: Any) -> str:
    given = _input(item)
    if kind == "literal_error":
        return f"{_MUST_BE}{context['expected'].replace(chr(39), '')}, not {given}"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{_MUST_BE}{words} {context[bound]:g}, not {given}"
    if kind in _LENGTHS:
        bound, words = _LENGTHS[kind]
        entries = "entry" if context[bound] == 1 else "entries"
        return f"must have {words} {context[bound]} {entries}, not {context['actual_length']}"
    what = next((words for name, words in _KINDS.items() if f"{kind}_".startswith(f"{name}_")), None)
    return f"{_MUST_BE}{what}, not {given}" if what else f"{item['msg']}, not {given}"


def _input(item: Any) -> str:
    return "empty" if item["input"] is None else repr(item["input"])


def meant(name: str, known: Sequence[str]) -> str:
    """The known name that is nearest, as the end of a sentence; nothing where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else ""
