"""Judges the resources of a stack by the rules, in process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.policy.model import Level, NotKnownYet, Resource, Rule, Stack
from fleet.policy.rules import RULES


@dataclass(frozen=True)
class Violation:
    rule: str
    level: Level
    urn: str
    name: str
    """Of the resource."""
    message: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return f"{self.rule} ({self.level}): {self.name}: {self.message}"


@dataclass(frozen=True)
class Evaluation:
    rules: int
    """That were evaluated; those for production only are not, elsewhere."""
    violations: tuple[Violation, ...]
    undecided: tuple[str, ...]
    """Rules of which a value is not known before `up`, for one resource at least."""

    @property
    def mandatory(self) -> tuple[Violation, ...]:
        return tuple(v for v in self.violations if v.level == "mandatory")

    @property
    def advisory(self) -> tuple[Violation, ...]:
        return tuple(v for v in self.violations if v.level == "advisory")


def evaluate(resources: Sequence[Resource], *, production: bool, rules: Sequence[Rule] = RULES) -> Evaluation:
    """Every rule on every resource that it is about."""
    stack = Stack(resources, production)
    violations: list[Violation] = []
    undecided: list[str] = []
    asked = [rule for rule in rules if production or not rule.production]
    for rule in asked:
        for resource in filter(rule.applies, resources):
            try:
                violations += [_violation(rule, resource, found) for found in rule.check(resource, stack)]
            except NotKnownYet:
                undecided.append(rule.name)
    return Evaluation(len(asked), tuple(violations), tuple(sorted(set(undecided))))


def told(rule: Rule, found: str) -> str:
    """A sentence that says what is wrong, and one that says what to do."""
    return f"{found}. {rule.remedy}"


def _violation(rule: Rule, resource: Resource, found: str) -> Violation:
    return Violation(rule.name, rule.level, resource.urn, resource.name, told(rule, found))
