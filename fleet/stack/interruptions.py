"""The role by which AWS's Fault Injection Service interrupts spot nodes of the stack, as a test.

Sources: "IAM roles for AWS FIS experiments" (FIS guide), with the conditions that keep other accounts'
experiments out; "Fault injection actions", aws:ec2:send-spot-instance-interruptions. An experiment of any
other action finds nothing that the role may do.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from fleet.stack.encryption import Account
from fleet.stack.identity import Statement, allow, of_stack, policy, trust
from fleet.stack.naming import interrupting_role


class Interruptions(pulumi.ComponentResource):
    def __init__(self, stack: str, account: Account) -> None:
        name = interrupting_role(stack)
        super().__init__("goldenfleet:stack:Interruptions", name)
        child = pulumi.ResourceOptions(parent=self)
        # By the name that `goldenfleet interrupt` looks for.
        role = aws.iam.Role(
            name,
            name=name,
            assume_role_policy=trust("fis.amazonaws.com", _own_experiments(account)),
            opts=child,
        )
        aws.iam.RolePolicy(name, role=role.name, policy=policy(interrupting(stack, account)), opts=child)
        self.register_outputs({"roleArn": role.arn})


def interrupting(stack: str, account: Account) -> list[Statement]:
    return [
        allow(["ec2:DescribeInstances"], ["*"]),
        of_stack(stack, allow(["ec2:SendSpotInstanceInterruptions"], [account.arn("ec2", "instance/*")])),
    ]


def _own_experiments(account: Account) -> Statement:
    return {
        "StringEquals": {"aws:SourceAccount": account.id},
        "ArnLike": {"aws:SourceArn": account.arn("fis", "experiment/*")},
    }
