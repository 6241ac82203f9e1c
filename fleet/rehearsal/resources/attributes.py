"""Arguments that AWS keeps as a flat list of named text attributes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.rehearsal.resources.errors import ArgumentUnmappedError
from fleet.rehearsal.resources.shapes import UNKNOWN, text


@dataclass(frozen=True)
class Attribute:
    name: str
    default: Any
    """What AWS has where nobody sets it."""


def attributes_of(
    table: Mapping[str, Attribute], inputs: Mapping[str, Any], changed: Collection[str]
) -> dict[str, str]:
    """Attribute -> text, for the changed arguments. A key `block.field` of `table` is a field of an argument.

    Raises ArgumentUnmappedError for a field that `table` does not know.
    """
    blocks = {key.partition(".")[0] for key in table if "." in key}
    for block in blocks & set(changed):
        _refuse_unknown_fields(table, block, inputs.get(block))
    touched = {key: attribute for key, attribute in table.items() if key.partition(".")[0] in changed}
    return {
        attribute.name: text(_value(inputs, key, attribute.default)) for key, attribute in touched.items()
    }


def attribute_list(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def _value(inputs: Mapping[str, Any], key: str, default: Any) -> Any:
    block, _, field = key.partition(".")
    value = inputs.get(block)
    if field and isinstance(value, Mapping):
        value = value.get(field)
    return default if value is None else value


def _refuse_unknown_fields(table: Mapping[str, Attribute], block: str, value: Any) -> None:
    if value is None or value is UNKNOWN:
        return
    for field in value:
        if f"{block}.{field}" not in table:
            raise ArgumentUnmappedError(
                f"argument {block}.{field} has no attribute in AWS's load balancing",
                "Remove it, or map it in fleet/rehearsal/resources/balancing.py.",
            )
