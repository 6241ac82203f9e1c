"""Role of the control handler: it reads notices, takes nodes of this stack out, and lets them go.

All that a role may say inline is 10,240 characters ("IAM and AWS STS quotas", IAM guide). Groups and target
groups are therefore named by how their names begin, whatever their number; where another stack's begin alike,
the stack's tag tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from fleet.stack import fallback
from fleet.stack.encryption import Account
from fleet.stack.identity import Statement, allow, groups_of, of_stack, policy, trust
from fleet.stack.naming import resource_name

_CHANGING_GROUPS = (
    "autoscaling:CompleteLifecycleAction",
    "autoscaling:DetachInstances",
    "autoscaling:EnterStandby",
    "autoscaling:ExitStandby",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
)
_LOOKING_UP = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLifecycleHooks",
    "ec2:DescribeInstances",
)


def control_statements(
    stack: str, account: Account, queue_arn: pulumi.Input[str], key_arn: pulumi.Input[str] | None = None
) -> list[Statement]:
    """`key_arn` is of the key that encrypts the queue, where it is not SQS's own."""
    target_groups = account.arn("elasticloadbalancing", f"targetgroup/{resource_name(stack, '*')}")
    return [
        *([] if key_arn is None else [allow(["kms:Decrypt"], [key_arn])]),
        of_stack(
            stack,
            allow(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], [queue_arn]),
        ),
        of_stack(stack, allow(_CHANGING_GROUPS, [groups_of(stack, account)])),
        of_stack(stack, allow(["elasticloadbalancing:DeregisterTargets"], [target_groups])),
        allow(_LOOKING_UP, ["*"]),
    ]


class ControlIdentity(pulumi.ComponentResource):
    """Of a Lambda function. `spot_roles` are the ARNs of the roles of nodes that may be spot."""

    def __init__(
        self,
        stack: str,
        queue_arn: pulumi.Input[str],
        spot_roles: Sequence[pulumi.Input[str]],
        key_arn: pulumi.Input[str] | None = None,
    ) -> None:
        name = resource_name(stack, "control")
        super().__init__("goldenfleet:stack:ControlIdentity", name)
        child, account = pulumi.ResourceOptions(parent=self), Account.here()
        self.role = aws.iam.Role(name, assume_role_policy=trust("lambda.amazonaws.com"), opts=child)
        statements = control_statements(stack, account, queue_arn, key_arn)
        statements += fallback.statements(stack, account, spot_roles)
        aws.iam.RolePolicy(name, role=self.role.name, policy=policy(statements), opts=child)
        self.register_outputs({"roleArn": self.role.arn})
