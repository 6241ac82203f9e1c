"""What a registration means for what exists: pure decisions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from fleet.rehearsal.engine.state import Record
from fleet.rehearsal.engine.values import is_sealed
from fleet.rehearsal.resources import REQUIRED, Handler

Op = Literal["create", "update", "replace", "delete", "same", "read"]
Path = tuple[str | int, ...]

_TOKEN = re.compile(r"""\["(?P<quoted>[^"]*)"\]|\[(?P<index>\d+|\*)\]|(?P<name>[^.\[\]]+)""")
_MISSING = object()


@dataclass(frozen=True)
class Plan:
    op: Op
    changed: tuple[str, ...] = ()


def plan(
    handler: Handler, old: Record | None, inputs: Mapping[str, Any], replace_on_changes: Iterable[str] = ()
) -> Plan:
    """`inputs` are sealed as those of `old` are; UNKNOWN differs from everything that is stored."""
    if old is None or old.pending:
        return Plan("create")
    changed = changed_arguments(old.inputs, inputs)
    if not changed:
        return Plan("same")
    if forces_replacement(handler, changed, inputs) or _named(replace_on_changes, old.inputs, inputs):
        return Plan("replace", changed)
    return Plan("update", changed)


def changed_arguments(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(k for k in {*before, *now} if before.get(k, _MISSING) != now.get(k, _MISSING)))


def forces_replacement(handler: Handler, changed: Collection[str], inputs: Mapping[str, Any]) -> bool:
    """An argument that AWS changes in no existing resource, or that cannot be taken back."""
    return any(
        key not in handler.updates or (key not in inputs and handler.updates[key] is REQUIRED)
        for key in changed
    )


def _named(paths: Iterable[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return any(_at(before, parse_path(path)) != _at(now, parse_path(path)) for path in paths)


def parse_path(path: str) -> Path:
    """`tags.Name`, `tags["a.b"]`, `actions[0].type`, `*`: Pulumi's property paths."""
    return tuple(_token(match) for match in _TOKEN.finditer(path))


def _token(match: re.Match[str]) -> str | int:
    if match["quoted"] is not None:
        return match["quoted"]
    if match["index"] is not None:
        return match["index"] if match["index"] == "*" else int(match["index"])
    return match["name"]


def keep_ignored(now: Mapping[str, Any], before: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """`now` with what is at `paths` as it was before. A stored secret cannot be read: there `now` stays."""
    result = deepcopy(dict(now))
    for path in paths:
        _copy(result, before, parse_path(path))
    return result


def _copy(target: Any, source: Any, path: Path) -> None:
    head, rest = path[0], path[1:]
    if head == "*":
        for key in _keys(target) | _keys(source):
            _copy(target, source, (key, *rest))
    elif rest:
        inner = _item(target, head)
        if inner is not _MISSING:
            _copy(inner, _item(source, head), rest)
    else:
        _set(target, head, _item(source, head))


def _set(target: Any, key: str | int, value: Any) -> None:
    if is_sealed(value):
        return
    if isinstance(target, dict):
        if value is _MISSING:
            target.pop(key, None)
        else:
            target[key] = deepcopy(value)
    elif isinstance(target, list) and isinstance(key, int) and key < len(target) and value is not _MISSING:
        target[key] = deepcopy(value)


def _at(value: Any, path: Path) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if head == "*":
        return {key: _at(_item(value, key), rest) for key in _keys(value)}
    return _at(_item(value, head), rest)


def _item(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(str(key), _MISSING)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return _MISSING


def _keys(value: Any) -> set[str | int]:
    if isinstance(value, Mapping):
        return set(value)
    return set(range(len(value))) if isinstance(value, list) else set()


def deletion_order(records: Sequence[Record]) -> list[Record]:
    """Dependents first; among equals the youngest first.

    A replaced resource and its heir share a URN, so that dependencies may seem to go round: then by age.
    """
    places: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        places.setdefault(record.urn, []).append(place)
    graph: TopologicalSorter[int] = TopologicalSorter()
    for place in reversed(range(len(records))):
        record = records[place]
        needed = {record.parent, *record.dependencies} - {record.urn}
        graph.add(place)
        for urn in needed:
            for earlier in places.get(urn, ()):
                graph.add(earlier, place)
    try:
        return [records[place] for place in graph.static_order()]
    except CycleError:
        return list(reversed(records))
