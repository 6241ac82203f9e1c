"""What roles are made of, and the role of a tier's nodes. Control's is in control_identity.py.

Session Manager gets the actions that it needs (AWS Systems Manager guide, "Add Session Manager permissions to
an existing IAM role") and not the managed policy AmazonSSMManagedInstanceCore, which lets a node read every
parameter of the account.

Where AWS looks at a resource's tags for an action (service authorization reference: Auto Scaling, Elastic
Load Balancing V2, SQS and Systems Manager have aws:ResourceTag; log streams have no tags), the stack's tag
is demanded beside the ARN.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.stack import scaling
from fleet.stack.encryption import Account
from fleet.stack.naming import resource_name
from fleet.stack.tags import STACK, of_tier

Statement = dict[str, Any]

_SESSION_MANAGER = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_DISCOVERY = ("ec2:DescribeInstances", "elasticloadbalancing:DescribeTargetHealth")


def allow(actions: Sequence[str], resources: Sequence[pulumi.Input[str]]) -> Statement:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def of_stack(stack: str, statement: Statement, more: Statement | None = None) -> Statement:
    """The statement, for what has the stack's tag only; `more` are conditions beside that."""
    return {**statement, "Condition": {"StringEquals": {f"aws:ResourceTag/{STACK}": stack}, **(more or {})}}


def groups_of(stack: str, account: Account) -> str:
    """ARN of the stack's Auto Scaling groups, and of those of a stack whose name begins alike: ask for the
    tag beside.
    """
    named = f"autoScalingGroup:*:autoScalingGroupName/{resource_name(stack, '*')}"
    return account.arn("autoscaling", named)


def policy(statements: Sequence[Statement]) -> pulumi.Output[str]:
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(service: str, condition: Statement | None = None) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    bound = {} if condition is None else {"Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | bound]})


@dataclass(frozen=True)
class NodeNeeds:
    """What a tier's nodes do in AWS."""

    config_parameter_arn: pulumi.Input[str]
    log_group_arn: pulumi.Input[str]
    secrets: Sequence[str] = ()
    """What its settings refer to: ssm:/name or secretsmanager:name."""
    discovers: bool = False
    """Whether they find other nodes, as gateways do."""
    weights: Sequence[str] = ()
    """Where in S3 their weights are: s3://bucket/prefix."""
    key_arn: pulumi.Input[str] | None = None
    """Of the key that the stack's secrets may be encrypted by."""


def node_statements(stack: str, needs: NodeNeeds) -> Iterator[Statement]:
    """A node reads its configuration, secrets and weights, and writes its log; a gateway finds nodes too."""
    yield of_stack(stack, allow(["ssm:GetParameter"], [needs.config_parameter_arn]))
    for reference in needs.secrets:
        yield _reading(reference, needs.config_parameter_arn)
    if needs.secrets and needs.key_arn is not None:
        yield _decrypting_secrets(needs.key_arn)
    if needs.weights:
        yield from reading_weights(needs.weights, Account.here().partition)
    yield allow(
        ["logs:CreateLogStream", "logs:PutLogEvents"], [pulumi.Output.concat(needs.log_group_arn, ":*")]
    )
    yield allow(_SESSION_MANAGER, ["*"])
    yield _publishing()
    if needs.discovers:
        yield allow(_DISCOVERY, ["*"])


def reading_weights(prefixes: Sequence[str], partition: str) -> list[Statement]:
    """Objects below each s3://bucket/prefix, and their list: engines that stream weights ask for it."""
    places = [prefix.removeprefix("s3://").partition("/") for prefix in prefixes]
    objects = [f"arn:{partition}:s3:::{bucket}/{below}*" for bucket, _, below in places]
    lists = [
        allow(["s3:ListBucket"], [f"arn:{partition}:s3:::{bucket}"])
        | {"Condition": {"StringLike": {"s3:prefix": f"{below}*"}}}
        for bucket, _, below in places
    ]
    return [allow(["s3:GetObject"], objects), *lists]


def _decrypting_secrets(key_arn: pulumi.Input[str]) -> Statement:
    """Through the services that keep secrets only: the same key has the disks of all tiers."""
    condition = {"StringLike": {"kms:ViaService": ["ssm.*", "secretsmanager.*"]}}
    return allow(["kms:Decrypt"], [key_arn]) | {"Condition": condition}


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


def bounding(boundary_arn: str) -> pulumi.ResourceTransformation:
    """Puts the permissions boundary on every role, so that no component can forget it."""

    def bound(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not isinstance(args.resource, aws.iam.Role):
            return None
        return pulumi.ResourceTransformationResult(
            {**args.props, "permissions_boundary": boundary_arn}, args.opts
        )

    return bound


class NodeIdentity(pulumi.ComponentResource):
    """Role and profile of one tier. Depend on it where nodes boot, or they meet a role without a policy."""

    def __init__(self, stack: str, tier: str, needs: NodeNeeds) -> None:
        name = resource_name(stack, f"{tier}-node")
        super().__init__("goldenfleet:stack:NodeIdentity", name, None, of_tier(tier))
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(name, assume_role_policy=trust("ec2.amazonaws.com"), opts=child)
        statements = list(node_statements(stack, needs))
        aws.iam.RolePolicy(name, role=role.name, policy=policy(statements), opts=child)
        self.profile = aws.iam.InstanceProfile(name, role=role.name, opts=child)
        self.role_arn = role.arn
        self.register_outputs({"roleArn": role.arn})
