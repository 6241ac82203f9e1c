"""What a program registers, as Terraform JSON: a second opinion on every argument, by AWS's own provider.

pulumi-aws is made from Terraform's AWS provider: types and arguments are the same, in another case, and lists
of blocks are in the plural. A table here has the blocks. Nothing here knows the provider's schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fleet.rehearsal.engine import Declared

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TYPE = re.compile(r"aws:(?P<module>\w+)/\w+:(?P<name>\w+)")
_NAME = re.compile(r"[^A-Za-z0-9_-]")

# Modules that do not stand in Terraform's name of a type.
_WITHOUT_MODULE = frozenset({"ec2"})
_TYPES = {"aws:lb/loadBalancer:LoadBalancer": "aws_lb"}

# Blocks that may be repeated: Terraform names one of them.
_BLOCKS = {
    "actions": "action",
    "alarms": "alarms",
    "blockDeviceMappings": "block_device_mappings",
    "conditions": "condition",
    "defaultActions": "default_action",
    "initialLifecycleHooks": "initial_lifecycle_hook",
    "metricDimensions": "metric_dimension",
    "metricQueries": "metric_query",
    "metrics": "metrics",
    "overrides": "override",
    "ruleActionOverrides": "rule_action_override",
    "rules": "rule",
    "statements": "statement",
    "stepAdjustments": "step_adjustment",
    "tagSpecifications": "tag_specifications",
    "targetGroups": "target_group",
    "textTransformations": "text_transformation",
    "vpcZoneIdentifiers": "vpc_zone_identifier",
}
# Where the argument is not its name in another case.
_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "aws_autoscaling_group": {"tags": "tag"},
    "aws_cloudwatch_composite_alarm": {"name": "alarm_name"},
    "aws_cloudwatch_metric_alarm": {"name": "alarm_name"},
    "aws_lambda_function": {"code": "filename", "name": "function_name"},
    "aws_lambda_permission": {"function": "function_name"},
    "aws_sns_topic_subscription": {"topic": "topic_arn"},
}
# Names that Pulumi gives where the program gives none, and Terraform demands.
_NAMED = {
    "aws_cloudwatch_metric_alarm": "alarm_name",
    "aws_cloudwatch_composite_alarm": "alarm_name",
    "aws_autoscaling_policy": "name",
    "aws_cloudwatch_log_metric_filter": "name",
}
# Their keys are the program's own.
_MAPS = frozenset({"tags", "dimensions", "inputPaths", "variables"})


def as_terraform(declared: Iterable[Declared]) -> dict[str, Any]:
    """A configuration with every resource of AWS's; values that are not known make no sense in it."""
    resources: dict[str, dict[str, Any]] = {}
    for each in declared:
        if each.type.startswith("aws:"):
            kind = terraform_type(each.type)
            resources.setdefault(kind, {})[_NAME.sub("_", each.name)] = _resource(kind, each)
    return {"resource": resources}


def terraform_type(token: str) -> str:
    """aws_sqs_queue for aws:sqs/queue:Queue."""
    if token in _TYPES:
        return _TYPES[token]
    match = _TYPE.fullmatch(token)
    assert match is not None, token
    module = "" if match["module"] in _WITHOUT_MODULE else f"{match['module']}_"
    return f"aws_{module}{_snake(match['name'])}"


def _resource(kind: str, declared: Declared) -> dict[str, Any]:
    own = _ARGUMENTS.get(kind, {})
    named = {_NAMED[kind]: declared.name} if kind in _NAMED else {}
    given = {own.get(key) or _argument(key): _value(key, value) for key, value in declared.inputs.items()}
    return {**named, **given}


def _argument(key: str) -> str:
    return _BLOCKS.get(key) or _snake(key)


def _value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if key in _MAPS:
            return {name: _value("", item) for name, item in value.items()}
        return {_argument(name): _value(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_value("", item) for item in value]
    # Text is a template to Terraform.
    return value.replace("${", "$${").replace("%{", "%%{") if isinstance(value, str) else value


def _snake(name: str) -> str:
    return _HUMP.sub("_", name).lower()
