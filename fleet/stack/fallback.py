"""What the control handler must know of a tier to keep it whole without spot, and what it may do for that.

Once a group exists, its on-demand base has one writer beside the handler: a rollout, which keeps what it
finds unless the configured base changed. A changed setting reaches the handler by the tag.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from fleet.stack.encryption import Account
from fleet.stack.identity import Statement, allow, groups_of, of_stack
from fleet.stack.settings_tier import BaseTier
from fleet.stack.tags import STACK

RULES_TAG = "goldenfleet:fallback"
MEMORY_TAG = "goldenfleet:fallback-state"
"""`fleet/control/fallback_record.py` has the same, and a test compares them: neither may import the other."""

_OF_A_LAUNCH = ("instance", "network-interface", "security-group", "subnet", "volume")


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


def statements(stack: str, account: Account, spot_roles: Sequence[pulumi.Input[str]]) -> list[Statement]:
    """What the handler may change for fallback: no size, no subnet, and only its own tag.

    Condition keys: service authorization reference, Amazon EC2 Auto Scaling, UpdateAutoScalingGroup and
    CreateOrUpdateTags. What describes knows no resource.
    """
    groups = [groups_of(stack, account)]
    left_alone = ("MaxSize", "MinSize", "VPCZoneIdentifiers", "LaunchConfigurationName")
    only_base = {"Null": {f"autoscaling:{key}": "true" for key in left_alone}}
    only_memory = {"ForAllValues:StringEquals": {"aws:TagKeys": [MEMORY_TAG]}}
    return [
        of_stack(stack, allow(["autoscaling:UpdateAutoScalingGroup"], groups), only_base),
        of_stack(stack, allow(["autoscaling:CreateOrUpdateTags"], groups), only_memory),
        of_stack(stack, allow(["autoscaling:CancelInstanceRefresh"], groups)),
        allow(["autoscaling:DescribeInstanceRefreshes", "autoscaling:DescribeScalingActivities"], ["*"]),
        *(_launching(stack, account, spot_roles) if spot_roles else ()),
    ]


def _launching(stack: str, account: Account, roles: Sequence[pulumi.Input[str]]) -> list[Statement]:
    """Launches by the stack's own templates.

    "When a user calls the [...] UpdateAutoScalingGroup [...] APIs, Amazon EC2 Auto Scaling checks their
    permissions against the version of the launch template", by a dry run of RunInstances ("Control Amazon
    EC2 launch template usage in Auto Scaling groups"). Whether it does where a request names no template, as
    ours, AWS does not say; if it does and the handler may not, a tier stays short while spot is dry.
    """
    by_template = {"ArnLike": {"ec2:LaunchTemplate": account.arn("ec2", "launch-template/*")}}
    made = [account.arn("ec2", f"{kind}/*") for kind in _OF_A_LAUNCH]
    images = [f"arn:{account.partition}:ec2:{account.region}::{kind}/*" for kind in ("image", "snapshot")]
    launched = {"StringEquals": {"ec2:CreateAction": "RunInstances", f"aws:RequestTag/{STACK}": stack}}
    to_ec2 = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    run = ["ec2:RunInstances"]
    return [
        allow(run, [*made, *images]) | {"Condition": by_template},
        # Every resource of a launch must be allowed: here it is that the template is this stack's.
        of_stack(stack, allow(run, [account.arn("ec2", "launch-template/*")])),
        allow(run, [account.arn("ec2", "spot-instances-request/*")]),
        allow(["ec2:CreateTags"], [account.arn("ec2", f"{kind}/*") for kind in ("instance", "volume")])
        | {"Condition": launched},
        allow(["iam:PassRole"], roles) | {"Condition": to_ec2},
    ]
