"""Roles: what a node of a tier may do, and what the control handler may do. Nothing else gets one.

Session Manager gets the actions that it needs (AWS Systems Manager guide, "Add Session Manager permissions to
an existing IAM role") and not the managed policy AmazonSSMManagedInstanceCore, which lets a node read every
parameter of the account.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.stack import fallback, scaling
from fleet.stack.naming import resource_name
from fleet.stack.tags import of_tier

Statement = dict[str, Any]

_SESSION_MANAGER = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_DISCOVERY = ("ec2:DescribeInstances", "elasticloadbalancing:DescribeTargetHealth")
_LOOKING_UP = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLifecycleHooks",
    "ec2:DescribeInstances",
)


def allow(actions: Sequence[str], resources: Sequence[pulumi.Input[str]]) -> Statement:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def policy(statements: Sequence[Statement]) -> pulumi.Output[str]:
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def node_statements(
    config_parameter_arn: pulumi.Input[str],
    log_group_arn: pulumi.Input[str],
    secrets: Sequence[str],
    discovers: bool,
) -> list[Statement]:
    """A node reads its configuration and secrets, and writes its log; a gateway finds model nodes too."""
    statements = [
        allow(["ssm:GetParameter"], [config_parameter_arn]),
        *(_reading(reference, config_parameter_arn) for reference in secrets),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], [pulumi.Output.concat(log_group_arn, ":*")]),
        allow(_SESSION_MANAGER, ["*"]),
        _publishing(),
    ]
    return [*statements, allow(_DISCOVERY, ["*"])] if discovers else statements


def _publishing() -> Statement:
    """PutMetricData knows no resource, so its namespace is what bounds it."""
    condition = {"StringEquals": {"cloudwatch:namespace": scaling.NAMESPACE}}
    return allow(["cloudwatch:PutMetricData"], ["*"]) | {"Condition": condition}


def _reading(reference: str, neighbour_arn: pulumi.Input[str]) -> Statement:
    """`reference` as the server's settings have it; what it names is in the account and region of
    `neighbour_arn`, a parameter's.
    """
    kind, _, name = reference.partition(":")
    if name.startswith("arn:"):
        return allow(["secretsmanager:GetSecretValue"], [name])
    here = pulumi.Output.from_input(neighbour_arn).apply(lambda arn: arn.partition(":parameter/")[0])
    if kind == "ssm":
        return allow(["ssm:GetParameter"], [pulumi.Output.concat(here, ":parameter", name)])
    place = here.apply(lambda arn: arn.replace(":ssm:", ":secretsmanager:"))
    # Secrets Manager puts a dash and six random characters behind a name.
    return allow(
        ["secretsmanager:GetSecretValue"], [pulumi.Output.concat(place, ":secret:", name, "-??????")]
    )


def control_statements(
    queue_arn: pulumi.Input[str],
    group_arns: Sequence[pulumi.Input[str]],
    target_group_arns: Sequence[pulumi.Input[str]],
    key_arn: pulumi.Input[str] | None = None,
) -> list[Statement]:
    """The control handler reads notices, takes nodes of these groups out, and lets them go.

    `key_arn` is of the key that encrypts the queue, where it is not SQS's own.
    """
    return [
        *([] if key_arn is None else [allow(["kms:Decrypt"], [key_arn])]),
        allow(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], [queue_arn]),
        allow(["autoscaling:CompleteLifecycleAction", "autoscaling:DetachInstances"], group_arns),
        allow(["elasticloadbalancing:DeregisterTargets"], target_group_arns),
        allow(_LOOKING_UP, ["*"]),
    ]


class NodeIdentity(pulumi.ComponentResource):
    """Role and profile of one tier. Depend on it where nodes boot, or they meet a role without a policy."""

    def __init__(
        self,
        stack: str,
        tier: str,
        config_parameter_arn: pulumi.Input[str],
        log_group_arn: pulumi.Input[str],
        secrets: Sequence[str],
        discovers: bool,
    ) -> None:
        name = resource_name(stack, f"{tier}-node")
        super().__init__("goldenfleet:stack:NodeIdentity", name, None, of_tier(tier))
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(name, assume_role_policy=trust("ec2.amazonaws.com"), opts=child)
        statements = node_statements(config_parameter_arn, log_group_arn, secrets, discovers)
        aws.iam.RolePolicy(name, role=role.name, policy=policy(statements), opts=child)
        self.profile = aws.iam.InstanceProfile(name, role=role.name, opts=child)
        self.register_outputs({"roleArn": role.arn})


class ControlIdentity(pulumi.ComponentResource):
    """Role of the control handler, which is a Lambda function."""

    def __init__(
        self,
        stack: str,
        queue_arn: pulumi.Input[str],
        group_arns: Sequence[pulumi.Input[str]],
        target_group_arns: Sequence[pulumi.Input[str]],
        key_arn: pulumi.Input[str] | None = None,
    ) -> None:
        name = resource_name(stack, "control")
        super().__init__("goldenfleet:stack:ControlIdentity", name)
        child = pulumi.ResourceOptions(parent=self)
        self.role = aws.iam.Role(name, assume_role_policy=trust("lambda.amazonaws.com"), opts=child)
        statements = control_statements(queue_arn, group_arns, target_group_arns, key_arn)
        statements += fallback.statements(stack, group_arns)
        aws.iam.RolePolicy(name, role=self.role.name, policy=policy(statements), opts=child)
        self.register_outputs({"roleArn": self.role.arn})
