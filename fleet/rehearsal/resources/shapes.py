"""A Pulumi value in the form that AWS's own request shape asks for.

pulumi-aws names arguments after AWS's API, in camel case and sometimes in the other grammatical number. So
botocore's input shape decides each member's spelling and type, and what has no place in it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

from fleet.rehearsal.resources.errors import ArgumentRefusedError, ArgumentUnmappedError


class Unknown(Enum):
    """The one value that a preview cannot know: it comes from a resource that is not made yet."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN

# botocore lags behind AWS here: a new instance type is no mistake.
_OPEN_ENUMS = frozenset({"InstanceType"})


def fit(shape: Shape, value: Any, path: str) -> Any:
    """`value` as `shape` wants it; UNKNOWN stays.

    Raises ArgumentUnmappedError and ArgumentRefusedError, which name `path`.
    """
    if value is UNKNOWN:
        return UNKNOWN
    if isinstance(shape, StructureShape):
        return _structure(shape, value, path)
    if isinstance(shape, ListShape):
        return _list(shape, value, path)
    if isinstance(shape, MapShape):
        return {key: fit(shape.value, item, f"{path}.{key}") for key, item in _mapping(value, path).items()}
    return _scalar(shape, value, path)


def same_word(name: str) -> str:
    """Names that differ only in case and punctuation are one word to pulumi-aws."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _structure(shape: StructureShape, value: Any, path: str) -> dict[str, Any]:
    spelling = {same_word(member): member for member in shape.members}
    result: dict[str, Any] = {}
    for key, item in _mapping(value, path).items():
        where = f"{path}.{key}" if path else key
        member = next((spelling[word] for word in _numbers(same_word(key)) if word in spelling), None)
        if member is None:
            raise ArgumentUnmappedError(
                f"argument {where} has no place in AWS's {shape.name}",
                f"Remove it, or map it in fleet/rehearsal/resources; AWS takes {', '.join(shape.members)}.",
            )
        result[member] = fit(shape.members[member], item, where)
    return result


def _numbers(word: str) -> Iterator[str]:
    """`word`, then its plural and its singulars."""
    yield word
    yield f"{word}s"
    if word.endswith("ies"):
        yield f"{word[:-3]}y"
    if word.endswith("s"):
        yield word[:-1]


def _list(shape: ListShape, value: Any, path: str) -> list[Any]:
    if isinstance(value, Mapping) and _is_pair(shape.member):
        value = [{"Key": key, "Value": item} for key, item in value.items()]
    if not isinstance(value, list):
        raise ArgumentRefusedError(f"argument {path} is {_kind(value)}", "AWS wants a list here.")
    return [fit(shape.member, item, f"{path}[{index}]") for index, item in enumerate(value)]


def _is_pair(shape: Shape) -> bool:
    return isinstance(shape, StructureShape) and set(shape.members) == {"Key", "Value"}


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentRefusedError(f"argument {path} is {_kind(value)}", "AWS wants a structure here.")
    return {key: item for key, item in value.items() if item is not None}


def _scalar(shape: Shape, value: Any, path: str) -> Any:
    if isinstance(value, Mapping | list):
        raise ArgumentRefusedError(
            f"argument {path} is {_kind(value)}", f"AWS wants a {shape.type_name} here."
        )
    try:
        result = _CONVERSIONS.get(shape.type_name, str)(value)
    except ValueError as exc:
        raise ArgumentRefusedError(
            f"argument {path} is not a {shape.type_name}", "Correct it in the program."
        ) from exc
    if (
        isinstance(shape, StringShape)
        and shape.enum
        and shape.name not in _OPEN_ENUMS
        and result not in shape.enum
    ):
        raise ArgumentRefusedError(f"argument {path} is {result!r}", f"AWS knows {', '.join(shape.enum)}.")
    return result


def _boolean(value: Any) -> bool:
    """pulumi-aws sends some booleans as text."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError(value)


def text(value: Any) -> str:
    """A scalar as AWS writes it where everything is text (attributes of queues, balancers, templates)."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "boolean": _boolean,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "string": text,
}


def _kind(value: Any) -> str:
    return (
        "a structure"
        if isinstance(value, Mapping)
        else "a list"
        if isinstance(value, list)
        else "a single value"
    )
