"""Warm pool of a group: nodes that have booted and wait, stopped or hibernated."""

from __future__ import annotations

from typing import Any

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.shapes import UNKNOWN, fit

_PUT = "autoscaling.PutWarmPool"


def warm_pool_arguments(aws: Aws, pool: Any) -> dict[str, Any]:
    """The request of a warm pool without its group. Raises where an argument fits no request."""
    fitted = {} if pool is None or pool is UNKNOWN else fit(aws.shape(_PUT), pool, "warmPool")
    assert isinstance(fitted, dict)
    return fitted


def put_warm_pool(aws: Aws, group: str, pool: Any) -> None:
    if pool is None:
        aws.call("autoscaling.DeleteWarmPool", AutoScalingGroupName=group, ForceDelete=True)
    else:
        aws.call(_PUT, AutoScalingGroupName=group, **warm_pool_arguments(aws, pool))
