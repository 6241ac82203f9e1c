"""docs/events.md: what nodes, gateways and the control handler say in their logs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import GoldenfleetError

_SAID = ("info", "warning", "error", "_log")
_SENT_BY = {"server": "gateways, nodes", "fleet": "control"}
_HEAD = """# Events

Made from the code by `scripts/reference`. Logs are JSON lines on stdout; each has `event` and `ts` (unix
seconds), a server's also `instance_id` and `role`. Fields below are the event's own.

| event | said by | fields | meaning |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Event:
    """A log line that the code can write. `fields` are those that are named where it is written."""

    name: str
    part: str
    fields: frozenset[str]


def page(root: Path, meanings: Mapping[str, str]) -> str:
    """Raises GoldenfleetError for an event without a meaning."""
    found = events(root)
    if unexplained := sorted({event.name for event in found} - meanings.keys()):
        raise GoldenfleetError(
            f"nobody says what {', '.join(unexplained)} means", "Add it to fleet/reference/meanings.py."
        )
    rows = [
        f"| `{event.name}` | {_SENT_BY[event.part]} | {_told(event.fields)} | {meanings[event.name]} |\n"
        for event in found
    ]
    return _HEAD + "".join(rows)


def _told(fields: frozenset[str]) -> str:
    return ", ".join(f"`{field}`" for field in sorted(fields)) or "-"


def events(root: Path) -> list[Event]:
    """All that the server and the control handler can say, by name and part."""
    found: dict[tuple[str, str], set[str]] = {}
    for folder in ("server", "fleet/control"):
        for path in sorted((root / folder).rglob("*.py")):
            for name, fields in _said(ast.parse(path.read_text())):
                found.setdefault((name, folder.partition("/")[0]), set()).update(fields)
    return [Event(name, part, frozenset(fields)) for (name, part), fields in sorted(found.items())]


def _said(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args or not _logs(call.func):
            continue
        fields = [keyword.arg for keyword in call.keywords if keyword.arg]
        for name in _names(call.args[0]):
            yield name, fields


def _logs(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _SAID


def _names(argument: ast.expr) -> Iterator[str]:
    """A name, each of a choice of names, or a beginning that a value follows (as `drain.*`)."""
    match argument:
        case ast.Constant(value=str(name)) if "." in name and " " not in name:
            yield name
        case ast.IfExp():
            yield from _names(argument.body)
            yield from _names(argument.orelse)
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), ast.FormattedValue()]):
            yield f"{start}*"
