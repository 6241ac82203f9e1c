"""What a rule is, and what it looks at. Nothing here imports pulumi, so that rules run in any process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

Level = Literal["mandatory", "advisory"]


class _Unknown:
    """Stands for what AWS will only tell once it has made something."""


UNKNOWN: Final = _Unknown()


class NotKnownYet(Exception):
    """A rule looked at a value that only `up` will know, so that it cannot judge before."""


class Values:
    """Arguments of a resource, or what one of them holds. Raises NotKnownYet where a value is UNKNOWN."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def has(self, key: str) -> bool:
        """Whether the program gives it, whatever its value."""
        return self._given.get(key) is not None

    def get(self, key: str, *more: str) -> Any:
        """The value at `key`, or at a path of keys; None where there is none."""
        value = _known(self._given.get(key), key)
        for part in more:
            value = _known(value.get(part) if isinstance(value, Mapping) else None, part)
        return value

    def true(self, key: str, *more: str) -> bool:
        """pulumi-aws takes some booleans as text."""
        return self.get(key, *more) in (True, "true")

    def each(self, key: str, *more: str) -> list[Values]:
        """The mappings in a list."""
        return [Values(_known(item, key)) for item in self.get(key, *more) or ()]

    def texts(self, key: str) -> list[str]:
        return [str(_known(item, key)) for item in self.get(key) or ()]

    def count(self, key: str) -> int:
        """Items of a list, known or not."""
        return len(self.get(key) or ())

    def document(self, key: str) -> list[Values]:
        """Statements of a policy document, which is JSON text."""
        text = self.get(key)
        return [] if text is None else [Values(s) for s in listed(json.loads(text)["Statement"])]


@dataclass(frozen=True)
class Resource:
    type: str
    name: str
    urn: str
    props: Mapping[str, Any]
    refs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Argument -> URNs of the resources that its value comes from, known before the value is."""

    @property
    def given(self) -> Values:
        return Values(self.props)


@dataclass(frozen=True)
class Stack:
    """All resources of a stack."""

    resources: Sequence[Resource]
    production: bool

    @cached_property
    def _by_urn(self) -> Mapping[str, Resource]:
        return {resource.urn: resource for resource in self.resources}

    def of(self, *types: str) -> list[Resource]:
        return [resource for resource in self.resources if resource.type in types]

    def behind(self, resource: Resource, argument: str) -> list[Resource]:
        """Resources that the argument's value comes from."""
        return [self._by_urn[urn] for urn in resource.refs.get(argument, ()) if urn in self._by_urn]

    def pointing(self, argument: str, at: Resource, *types: str) -> list[Resource]:
        """Resources of `types` whose argument's value comes from `at`."""
        return [resource for resource in self.of(*types) if at.urn in resource.refs.get(argument, ())]


Check = Callable[[Resource, Stack], Iterator[str]]


@dataclass(frozen=True)
class Rule:
    name: str
    description: str
    remedy: str
    level: Level
    types: tuple[str, ...]
    """Of the resources that it looks at; none means all."""
    check: Check
    """Yields what is wrong with a resource."""
    whole: bool
    """Whether it needs the other resources, which Pulumi shows to a rule only at the end of a run."""
    production: bool
    """Whether it holds for production only."""

    def applies(self, resource: Resource) -> bool:
        return resource.type in self.types if self.types else resource.type.startswith("aws:")


def rule(
    description: str,
    remedy: str,
    types: Sequence[str],
    *,
    level: Level = "mandatory",
    production: bool = False,
) -> Callable[[Callable[[Resource], Iterator[str]]], Rule]:
    """A rule about a resource by itself; it is called as its function is."""

    def make(check: Callable[[Resource], Iterator[str]]) -> Rule:
        def alone(resource: Resource, stack: Stack) -> Iterator[str]:
            del stack
            return check(resource)

        name = _name(check)
        return Rule(name, description, remedy, level, tuple(types), alone, whole=False, production=production)

    return make


def whole_rule(
    description: str,
    remedy: str,
    types: Sequence[str],
    *,
    level: Level = "mandatory",
    production: bool = False,
) -> Callable[[Check], Rule]:
    """A rule about a resource among the others."""

    def make(check: Check) -> Rule:
        name = _name(check)
        return Rule(name, description, remedy, level, tuple(types), check, whole=True, production=production)

    return make


def listed(value: Any) -> list[Any]:
    """Policy documents write one of a kind without a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _known(value: Any, key: str) -> Any:
    if value is UNKNOWN:
        raise NotKnownYet(key)
    return value


def _name(check: Callable[..., object]) -> str:
    name: str = check.__name__
    return name.replace("_", "-")
