"""Instance refresh: what a group starts when what it launches has changed.

pulumi-aws starts one itself, when the group asks for it by `instanceRefresh` and its launch template, mixed
policy or a named trigger changes; AWS rolls nothing by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, code_of
from fleet.rehearsal.resources.handler import Want
from fleet.rehearsal.resources.shapes import UNKNOWN, fit

_LAUNCHES = frozenset({"launchConfiguration", "launchTemplate", "mixedInstancesPolicy"})
_RUNNING = frozenset({"Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"})
_CANCEL_SECONDS = 900.0
_START = "autoscaling.StartInstanceRefresh"


def refresh_arguments(aws: Aws, refresh: Any) -> dict[str, Any]:
    """The request of a refresh without its group. Raises where an argument fits no request."""
    if refresh is None or refresh is UNKNOWN:
        return {}
    shape = aws.shape(_START)
    request = {key: value for key, value in refresh.items() if key != "triggers"}
    result = fit(shape, request, "instanceRefresh")
    assert isinstance(result, dict)
    return result


def refresh_if_due(aws: Aws, group: str, want: Want, changed: Collection[str]) -> None:
    refresh = want.get("instanceRefresh")
    if refresh is not None and set(changed) & {*_LAUNCHES, *refresh.get("triggers", ())}:
        _start(aws, group, refresh_request(aws, group, want))


def refresh_request(aws: Aws, group: str, want: Want) -> dict[str, Any]:
    request = {"AutoScalingGroupName": group, **refresh_arguments(aws, want.inputs["instanceRefresh"])}
    if request.get("Preferences", {}).get("AutoRollback"):
        # AWS: AutoRollback needs a DesiredConfiguration to roll back from.
        request["DesiredConfiguration"] = _launched(aws, want)
    return request


def _launched(aws: Aws, want: Want) -> dict[str, Any]:
    members = aws.shape(_START).members["DesiredConfiguration"]
    policy = want.get("mixedInstancesPolicy")
    if policy is not None:
        return dict(fit(members, {"mixedInstancesPolicy": policy}, ""))
    names = {"id": "LaunchTemplateId", "name": "LaunchTemplateName"}
    template: Mapping[str, Any] = want.inputs["launchTemplate"]
    return dict(fit(members, {"launchTemplate": {names.get(k, k): v for k, v in template.items()}}, ""))


def _start(aws: Aws, group: str, request: dict[str, Any]) -> None:
    """A refresh that still runs rolls out what is not wanted any more: it is cancelled first."""
    try:
        aws.call(_START, **request)
    except ClientError as exc:
        if code_of(exc) != "InstanceRefreshInProgress":
            raise
        aws.call("autoscaling.CancelInstanceRefresh", AutoScalingGroupName=group)
        aws.wait(f"refresh of {group} cancelled", lambda: not _running(aws, group), _CANCEL_SECONDS)
        aws.call(_START, **request)


def _running(aws: Aws, group: str) -> bool:
    answer = aws.call("autoscaling.DescribeInstanceRefreshes", AutoScalingGroupName=group)
    return any(refresh["Status"] in _RUNNING for refresh in answer["InstanceRefreshes"])
