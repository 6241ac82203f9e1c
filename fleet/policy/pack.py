"""The rules as a policy pack of Pulumi's: `pulumi preview --policy-pack fleet/policy`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import pulumi_policy as pp
from pulumi_policy import proxy

from fleet.policy.evaluate import told
from fleet.policy.model import UNKNOWN, NotKnownYet, Resource, Rule, Stack
from fleet.policy.rules import RULES

NAME = "goldenfleet"
_LEVELS = {"mandatory": pp.EnforcementLevel.MANDATORY, "advisory": pp.EnforcementLevel.ADVISORY}


def serve() -> None:
    """Answer Pulumi's CLI until it ends this process."""
    pp.PolicyPack(NAME, policies(production=is_production(os.environ)))


def is_production(environ: Mapping[str, str]) -> bool:
    """The CLI hands the stack's configuration to a pack as it does to the program: JSON in PULUMI_CONFIG."""
    config = json.loads(environ.get("PULUMI_CONFIG") or "{}")
    return str(config.get("goldenfleet:production", "")).lower() == "true"


def policies(*, production: bool) -> list[pp.Policy]:
    return [
        _over_stack(rule, production) if rule.whole else _over_resource(rule)
        for rule in RULES
        if production or not rule.production
    ]


def _over_resource(rule: Rule) -> pp.Policy:
    def validate(args: pp.ResourceValidationArgs, report: pp.ReportViolation) -> None:
        resource = Resource(args.resource_type, args.name, args.urn, _plain(args.props))
        if rule.applies(resource):
            _judge(rule, resource, Stack([resource], production=True), report)

    return pp.ResourceValidationPolicy(**_described(rule), validate=validate)


def _over_stack(rule: Rule, production: bool) -> pp.Policy:
    def validate(args: pp.StackValidationArgs, report: pp.ReportViolation) -> None:
        stack = Stack([_resource(shown) for shown in args.resources], production)
        for resource in filter(rule.applies, stack.resources):
            _judge(rule, resource, stack, report)

    return pp.StackValidationPolicy(**_described(rule), validate=validate)


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "description": rule.description,
        "enforcement_level": _LEVELS[rule.level],
        "remediation_steps": rule.remedy,
    }


def _judge(rule: Rule, resource: Resource, stack: Stack, report: Callable[[str, str | None], None]) -> None:
    """What is not known in a preview is judged in the update, where Pulumi asks again."""
    try:
        for found in rule.check(resource, stack):
            report(f"{resource.name}: {told(rule, found)}", resource.urn)
    except NotKnownYet:
        return


def _resource(shown: pp.PolicyResource) -> Resource:
    refs = {key: [r.urn for r in found] for key, found in shown.property_dependencies.items()}
    return Resource(shown.resource_type, shown.name, shown.urn, _plain(shown.props), refs)


def _plain(props: Mapping[str, Any]) -> dict[str, Any]:
    """Pulumi's view raises where a value is not known; ours holds UNKNOWN there."""
    found: dict[str, Any] = {}
    for key in props:
        try:
            found[key] = _value(props[key])
        except proxy.UnknownValueError:
            found[key] = UNKNOWN
    return found


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, str) or not hasattr(value, "__getitem__"):
        return value
    return [_item(value, number) for number in range(len(value))]


def _item(values: Any, number: int) -> Any:
    try:
        return _value(values[number])
    except proxy.UnknownValueError:
        return UNKNOWN
