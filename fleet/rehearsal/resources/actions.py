"""Actions and conditions of listeners, from pulumi-aws's names to AWS's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.rehearsal.resources.shapes import UNKNOWN

_ACTIONS = {"fixedResponse": "FixedResponseConfig", "redirect": "RedirectConfig"}
_CONDITIONS = {
    "hostHeader": ("host-header", "HostHeaderConfig"),
    "httpHeader": ("http-header", "HttpHeaderConfig"),
    "httpRequestMethod": ("http-request-method", "HttpRequestMethodConfig"),
    "pathPattern": ("path-pattern", "PathPatternConfig"),
    "queryStrings": ("query-string", "QueryStringConfig"),
    "sourceIp": ("source-ip", "SourceIpConfig"),
}


def action(arguments: Any) -> Any:
    if arguments is UNKNOWN:
        return UNKNOWN
    shaped = {_ACTIONS.get(key, key): value for key, value in arguments.items() if value is not None}
    forward = shaped.pop("forward", None)
    return shaped if forward is None else {**shaped, "ForwardConfig": _forward(forward)}


def _forward(arguments: Any) -> Any:
    if arguments is UNKNOWN:
        return UNKNOWN
    names = {"targetGroups": "TargetGroups", "stickiness": "TargetGroupStickinessConfig"}
    shaped = {names.get(key, key): value for key, value in arguments.items() if value is not None}
    if isinstance(shaped.get("TargetGroups"), list):
        shaped["TargetGroups"] = [_target_group(item) for item in shaped["TargetGroups"]]
    if isinstance(shaped.get("TargetGroupStickinessConfig"), Mapping):
        stickiness = shaped["TargetGroupStickinessConfig"]
        shaped["TargetGroupStickinessConfig"] = _renamed(stickiness, {"duration": "DurationSeconds"})
    return shaped


def _target_group(arguments: Any) -> Any:
    return arguments if arguments is UNKNOWN else _renamed(arguments, {"arn": "TargetGroupArn"})


def _renamed(arguments: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in arguments.items()}


def condition(arguments: Any) -> Any:
    if arguments is UNKNOWN:
        return UNKNOWN
    shaped: dict[str, Any] = {}
    for key, value in arguments.items():
        if value is None:
            continue
        field, config = _CONDITIONS.get(key, (key, key))
        shaped |= {"Field": field, config: {"Values": value} if key == "queryStrings" else value}
    return shaped
