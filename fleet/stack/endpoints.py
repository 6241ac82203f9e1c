"""Doors to AWS's interfaces inside the VPC, so that calls to them never leave it, and who may go through.

A policy here gives nobody anything: it is the most that may pass a door ("Control access to VPC endpoints
using endpoint policies", AWS PrivateLink guide). Who brings credentials of another account gets through none,
and those that could carry data away lead to this account's resources only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.stack.encryption import Account
from fleet.stack.identity import reading_weights
from fleet.stack.naming import resource_name

Statement = dict[str, Any]

ALLOWED: Mapping[str, Sequence[str]] = {
    "autoscaling": (
        "autoscaling:CancelInstanceRefresh",
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:CreateOrUpdateTags",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeInstanceRefreshes",
        "autoscaling:DescribeLifecycleHooks",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:DetachInstances",
        "autoscaling:EnterStandby",
        "autoscaling:ExitStandby",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "autoscaling:UpdateAutoScalingGroup",
    ),
    "ec2": ("ec2:CreateTags", "ec2:DescribeInstances"),
    "elasticloadbalancing": (
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:DescribeTargetHealth",
    ),
    "logs": ("logs:CreateLogStream", "logs:PutLogEvents"),
    "monitoring": ("cloudwatch:PutMetricData",),
    "secretsmanager": ("secretsmanager:GetSecretValue",),
    "sqs": ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"),
    "ssm": ("ssm:GetParameter", "ssm:UpdateInstanceInformation"),
    "ssmmessages": (
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
    ),
}
"""Service -> what nodes and the control handler call there.

None for containers (ecr), which an image has already; none for ec2messages, which SSM Agent needs no more
since 3.3.40.0 (Systems Manager guide, "Create VPC endpoints"); none for sts, for a role's credentials come
from the metadata service.
"""

# These take data, or give it, by a name that may be another account's.
_CARRYING = frozenset({"logs", "secretsmanager", "sqs"})


class Endpoints(pulumi.ComponentResource):
    """Depend on it where nodes boot: without a way to AWS they find no configuration."""

    def __init__(
        self,
        stack: str,
        vpc_id: pulumi.Input[str],
        subnets: Sequence[pulumi.Input[str]],
        security_group: pulumi.Input[str],
    ) -> None:
        name = resource_name(stack, "endpoints")
        super().__init__("goldenfleet:stack:Endpoints", name)
        account = Account.here()
        for service in ALLOWED:
            aws.ec2.VpcEndpoint(
                f"{name}-{service}",
                vpc_id=vpc_id,
                service_name=f"com.amazonaws.{account.region}.{service}",
                vpc_endpoint_type="Interface",
                subnet_ids=list(subnets),
                security_group_ids=[security_group],
                private_dns_enabled=True,
                policy=document([_passing(service, account.id)]),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def s3_policy(account: Account, weights: Sequence[str]) -> str:
    """Reading only: weights wherever they are, else this account's buckets."""
    own = {"StringEquals": {"aws:PrincipalAccount": account.id, "aws:ResourceAccount": account.id}}
    reading = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": "*",
        "Condition": own,
    }
    return document([reading, *_weights(account, weights)])


def document(statements: Sequence[Statement]) -> str:
    everyone = [{"Principal": "*", **statement} for statement in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": everyone})


def _passing(service: str, account_id: str) -> Statement:
    asked = {"aws:PrincipalAccount": account_id}
    if service in _CARRYING:
        asked["aws:ResourceAccount"] = account_id
    return {
        "Effect": "Allow",
        "Action": list(ALLOWED[service]),
        "Resource": "*",
        "Condition": {"StringEquals": asked},
    }


def _weights(account: Account, prefixes: Sequence[str]) -> Iterator[Statement]:
    """Another account's bucket too, by name; as a role may read it, and with this account's credentials."""
    for statement in reading_weights(prefixes, account.partition) if prefixes else ():
        asked = dict(statement.get("Condition", {}))
        asked["StringEquals"] = {"aws:PrincipalAccount": account.id}
        yield {**statement, "Condition": asked}
