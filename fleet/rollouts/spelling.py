"""Arguments as pulumi-aws spells them, in the spelling and the types of AWS's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.model import ListShape, Shape, StructureShape


def as_request(shape: Shape, value: Any) -> Any:
    """`value` with each member as `shape` names it: the names differ in case only.

    Raises KeyError for what has no place in the request.
    """
    if isinstance(shape, StructureShape):
        spelling = {name.lower(): name for name in shape.members}
        return {
            spelling[key.lower()]: as_request(shape.members[spelling[key.lower()]], item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape):
        return [as_request(shape.member, item) for item in value]
    match shape.type_name:
        case "integer":
            return int(value)
        case "double":
            return float(value)
        case "boolean":
            return value if isinstance(value, bool) else value == "true"
        case _:
            # Pulumi has one kind of number only, and AWS's weights are text.
            return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def holds(there: Any, wanted: Any) -> bool:
    """Whether all of `wanted` is `there`; neither what AWS adds to it counts, nor the type of a scalar."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(holds(there.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(holds(a, b) for a, b in zip(there, wanted, strict=True))
        )
    return str(there).lower() == str(wanted).lower()
