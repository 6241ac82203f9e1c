"""What the control handler must know of a tier to keep it whole without spot, and what it may do for that.

Once a group exists, its on-demand base has one writer beside the handler: a rollout, which keeps what it
finds unless the configured base changed. A changed setting reaches the handler by the tag.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.stack.settings_tier import BaseTier
from fleet.stack.tags import STACK

RULES_TAG = "goldenfleet:fallback"
MEMORY_TAG = "goldenfleet:fallback-state"
"""`fleet/control/fallback_record.py` has the same, and a test compares them: neither may import the other."""


def rules(tier: BaseTier) -> str:
    """The tag's value: JSON, with times in seconds."""
    asked, most = tier.fallback, tier.capacity.max
    told = {
        "enabled": tier.falls_back,
        "base": tier.purchase.on_demand_base,
        "most": most if asked.most is None else asked.most,
        "after": asked.after_seconds,
        "hold": asked.hold_seconds,
        "longestHold": asked.longest_hold_seconds,
    }
    return json.dumps(told, separators=(",", ":"))


def rules_tag(tier: BaseTier) -> aws.autoscaling.GroupTagArgs:
    """The group's own: its nodes do not get it."""
    return aws.autoscaling.GroupTagArgs(key=RULES_TAG, value=rules(tier), propagate_at_launch=False)


def statements(stack: str, group_arns: Sequence[pulumi.Input[str]]) -> list[dict[str, Any]]:
    """What the handler may change for fallback: no size, no template, no subnet, and only its own tag.

    Condition keys: service authorization reference, Amazon EC2 Auto Scaling, UpdateAutoScalingGroup and
    CreateOrUpdateTags. DescribeScalingActivities knows no resource.
    """
    ours = {"StringEquals": {f"aws:ResourceTag/{STACK}": stack}}
    left_alone = ("MaxSize", "MinSize", "VPCZoneIdentifiers", "LaunchConfigurationName")
    only_base = {"Null": {f"autoscaling:{key}": "true" for key in left_alone}}
    only_memory = {"ForAllValues:StringEquals": {"aws:TagKeys": [MEMORY_TAG]}}
    return [
        _allow("autoscaling:UpdateAutoScalingGroup", group_arns) | {"Condition": ours | only_base},
        _allow("autoscaling:CreateOrUpdateTags", group_arns) | {"Condition": ours | only_memory},
        _allow("autoscaling:DescribeScalingActivities", ["*"]),
    ]


def _allow(action: str, resources: Sequence[pulumi.Input[str]]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [action], "Resource": list(resources)}
