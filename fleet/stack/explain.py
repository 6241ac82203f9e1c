"""Every setting of a stack, from the models that check them: what it is, and when to change it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fleet.stack.settings import Settings
from fleet.stack.settings_base import NAMESPACE

Schema = Mapping[str, Any]

TIER = "NAME"
"""Stands for a tier's name in a path, and for that of whatever else there is a list of."""

_GROUP = "group"
_TIERS = "tiers"
_ROLES = ("gateway", "model")


@dataclass(frozen=True)
class Setting:
    """`path` is as error messages have it. `roles` are the tiers that have it; empty is all, or no tier's."""

    path: str
    kind: str
    required: bool
    default: object
    description: str
    when: str
    roles: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The path without its last part."""
        return self.path.rpartition(".")[0] or NAMESPACE

    @property
    def is_group(self) -> bool:
        return self.kind == _GROUP

    def as_json(self) -> dict[str, object]:
        told = {"setting": self.path, "type": self.kind, "required": self.required, "default": self.default}
        return {**told, "description": self.description, "when": self.when, "roles": list(self.roles)}


@cache
def all_settings() -> tuple[Setting, ...]:
    """In the order of the models, but single settings before groups; a group stands before what is in it."""
    schema = Settings.model_json_schema(by_alias=True)
    own = {**schema, "properties": {k: v for k, v in schema["properties"].items() if k != "stack"}}
    return tuple(_merged(_walk(own, f"{NAMESPACE}:", schema["$defs"])))


def values(settings: Settings) -> dict[str, str]:
    """Path, with NAME for every tier, -> what `settings` has there; where tiers differ, each one's."""
    dumped = settings.model_dump(mode="json", by_alias=True)
    tiers = {
        tier["name"]: dict(_leaves(tier, f"{NAMESPACE}:{_TIERS}.{TIER}.")) for tier in dumped.pop(_TIERS)
    }
    found = {path: words(value) for path, value in _leaves(dumped, f"{NAMESPACE}:")}
    for path in dict.fromkeys(path for own in tiers.values() for path in own):
        told = {name: words(own[path]) for name, own in tiers.items() if path in own}
        same = len(set(told.values())) == 1 and len(told) == len(tiers)
        found[path] = (
            next(iter(told.values()))
            if same
            else ", ".join(f"{name} {value}" for name, value in told.items())
        )
    return found


def words(value: object) -> str:
    match value:
        case None | [] | {}:
            return "none"
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(str(item["name"]) if isinstance(item, dict) else str(item) for item in value)
        case dict():
            return ", ".join(f"{key} {item}" for key, item in value.items())
        case _:
            return str(value)


def _leaves(level: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    groups = {setting.path for setting in all_settings() if setting.is_group}
    for key, value in level.items():
        if isinstance(value, dict) and prefix + key in groups:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _walk(group: Schema, prefix: str, defs: Mapping[str, Schema]) -> Iterator[Setting]:
    shapes = {key: _shape(schema, defs) for key, schema in group["properties"].items()}
    for key in sorted(shapes, key=lambda key: _is_group(shapes[key]) or _is_list_of_groups(shapes[key])):
        schema, shape = group["properties"][key], shapes[key]
        path, required = prefix + key, key in group.get("required", ())
        yield Setting(
            path,
            _kind(shape, defs),
            required,
            None if _is_group(shape) else schema.get("default"),
            schema.get("description", ""),
            schema.get("when", ""),
        )
        if _is_group(shape):
            yield from _walk(shape, f"{path}.", defs)
        elif (item := _item(shape, defs)) is not None:
            yield from _walk(item, f"{path}.{TIER}.", defs)
        elif key == _TIERS:
            for role in _ROLES:
                tier = defs[shape["items"]["discriminator"]["mapping"][role].rpartition("/")[2]]
                for setting in _walk(tier, f"{path}.{TIER}.", defs):
                    yield replace(setting, roles=(role,))


def _merged(found: Iterator[Setting]) -> Iterator[Setting]:
    """What both roles have in the same words is told once."""
    told: dict[str, Setting] = {}
    for setting in found:
        key = repr(replace(setting, roles=()))
        roles = (*told[key].roles, *setting.roles) if key in told else setting.roles
        told[key] = replace(setting, roles=roles)
    for setting in told.values():
        yield replace(setting, roles=()) if setting.roles == _ROLES else setting


def _shape(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    """The schema of the value itself, where it may also be left out."""
    if "$ref" in schema:
        return defs[schema["$ref"].rpartition("/")[2]]
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return _shape(choices[0], defs) if len(choices) == 1 else schema


def _is_group(shape: Schema) -> bool:
    return "properties" in shape


def _item(shape: Schema, defs: Mapping[str, Schema]) -> Schema | None:
    """What a list is of, where that is one kind of group."""
    if shape.get("type") != "array" or "discriminator" in shape["items"]:
        return None
    item = _shape(shape["items"], defs)
    return item if _is_group(item) else None


def _is_list_of_groups(shape: Schema) -> bool:
    return "$ref" in shape.get("items", {}) or "discriminator" in shape.get("items", {})


def _kind(shape: Schema, defs: Mapping[str, Schema]) -> str:
    if _is_group(shape):
        return _GROUP
    return _or([choice for one in shape.get("anyOf", [shape]) for choice in _choices(one, defs)])


def _choices(shape: Schema, defs: Mapping[str, Schema]) -> list[str]:
    given = shape.get("enum", [shape["const"]] if "const" in shape else [])
    return [words(value) for value in given] or [_type(shape, defs)]


def _type(shape: Schema, defs: Mapping[str, Schema]) -> str:
    match shape.get("type"):
        case "array":
            return f"list of {_plural(_kind(_shape(shape['items'], defs), defs))}{_length(shape)}"
        case "integer":
            return f"whole number{_range(shape)}"
        case "number":
            return f"number{_range(shape)}"
        case "boolean":
            return "true or false"
        case "object":
            return "mapping"
        case "string":
            return {"ipv4network": "network"}.get(shape.get("format", ""), "text")
        case _:
            # Of tiers, which the role tells apart.
            return _GROUP


def _plural(kind: str) -> str:
    return re.sub("^(group|network|whole number)", r"\1s", kind)


def _or(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _range(shape: Schema) -> str:
    least, most = shape.get("minimum"), shape.get("maximum")
    above, below = shape.get("exclusiveMinimum"), shape.get("exclusiveMaximum")
    said = [
        f"from {least:g}" if least is not None else f"above {above:g}" if above is not None else "",
        f"to {most:g}" if most is not None else f"below {below:g}" if below is not None else "",
    ]
    return "".join(f" {part}" for part in said if part)


def _length(shape: Schema) -> str:
    least, most = shape.get("minItems"), shape.get("maxItems")
    if most is not None:
        return f", {least or 0} to {most}"
    return f", at least {least}" if least else ""
