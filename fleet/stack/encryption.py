"""The stack's own key: for volumes, the notice queue and logs, with those let in who encrypt for us."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import log_groups, resource_name

Statement = dict[str, Any]

# Data that a deleted key has encrypted is lost for good; this is AWS's longest time to think again.
_DELETION_DAYS = 30

_AUTO_SCALING = "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")


class Account(NamedTuple):
    """Where a stack is: what its ARNs begin with."""

    id: str
    partition: str
    region: str

    @staticmethod
    def here() -> Account:
        return Account(
            aws.get_caller_identity().account_id, aws.get_partition().partition, aws.get_region().region
        )

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.id}:{resource}"


class OwnKey(pulumi.ComponentResource):
    def __init__(self, stack: str, account: Account) -> None:
        name = resource_name(stack, "key")
        super().__init__("goldenfleet:stack:OwnKey", name)
        child = pulumi.ResourceOptions(parent=self)
        key = aws.kms.Key(
            name,
            description=f"Volumes, notices and logs of the Goldenfleet stack {stack}",
            policy=json.dumps({"Version": "2012-10-17", "Statement": key_statements(stack, account)}),
            enable_key_rotation=True,
            deletion_window_in_days=_DELETION_DAYS,
            opts=child,
        )
        alias = aws.kms.Alias(name, name=f"alias/{name}", target_key_id=key.key_id, opts=child)
        self.arn = key.arn
        self.register_outputs({"alias": alias.name})


def key_statements(stack: str, account: Account) -> list[Statement]:
    """The account's own policies decide for people; services are let in one by one.

    Auto Scaling ("Required AWS KMS key policy for use with encrypted volumes", EC2 Auto Scaling guide),
    CloudWatch Logs ("Encrypt log data using AWS KMS"), EventBridge (SQS guide, "Configure KMS permissions").
    """
    root = {"AWS": f"arn:{account.partition}:iam::{account.id}:root"}
    launching = {"AWS": f"arn:{account.partition}:iam::{account.id}:{_AUTO_SCALING}"}
    logs = {
        "ArnLike": {
            "kms:EncryptionContext:aws:logs:arn": account.arn("logs", f"log-group:{log_groups(stack)}")
        }
    }
    events = {"StringEquals": {"aws:SourceAccount": account.id}}
    return [
        _let(root, ["kms:*"]),
        _let(launching, _USE),
        _let(launching, ["kms:CreateGrant"], {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
        _let({"Service": f"logs.{account.region}.amazonaws.com"}, _USE, logs),
        _let({"Service": "events.amazonaws.com"}, ["kms:Decrypt", "kms:GenerateDataKey"], events),
    ]


def _let(principal: Statement, actions: Sequence[str], condition: Statement | None = None) -> Statement:
    statement = {"Effect": "Allow", "Principal": principal, "Action": list(actions), "Resource": "*"}
    return statement if condition is None else {**statement, "Condition": condition}
