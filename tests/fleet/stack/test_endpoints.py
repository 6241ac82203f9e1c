"""Doors to AWS inside the VPC: who reaches them, and what may pass."""

from __future__ import annotations

import re

import pytest

from fleet.stack.encryption import Account
from fleet.stack.endpoints import ALLOWED, s3_policy
from tests.fleet.stack.conftest import (
    Made,
)
from tests.fleet.stack.documents import role_statements, statements

ACCOUNT = Account("123456789012", "aws", "us-east-1")


def test_without_a_way_out_nodes_reach_aws_and_nothing_else(made: Made) -> None:
    """Endpoints for each service that they call, S3 by its own list, and no rule to the world."""
    registered = made("secured")
    doors = [e.inputs for e in registered.of("ec2/vpcEndpoint:VpcEndpoint")]
    interfaces = [door for door in doors if door["vpcEndpointType"] == "Interface"]
    assert {door["serviceName"] for door in interfaces} == {f"com.amazonaws.us-east-1.{s}" for s in ALLOWED}
    assert all(door["privateDnsEnabled"] for door in interfaces)
    out = [r.inputs for r in registered.of("vpc/securityGroupEgressRule:SecurityGroupEgressRule")]
    assert not [rule for rule in out if "cidrIpv4" in rule]
    lists = {rule["prefixListId"] for rule in out if "prefixListId" in rule}
    assert lists == {"pl-com.amazonaws.us-east-1.s3"}
    assert not [r for r in registered.resources if r.type == "aws:ec2/natGateway:NatGateway"]


@pytest.mark.parametrize("name", ["secured", "doors"])
def test_only_who_calls_aws_reaches_the_endpoints(name: str, made: Made) -> None:
    """Nodes and the control handler, by a rule at both ends."""
    registered = made(name)
    named = registered.security_groups()
    rules = [r.inputs for r in registered.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")]
    callers = {
        (named[r["referencedSecurityGroupId"]], r["fromPort"])
        for r in rules
        if named[r["securityGroupId"]] == "endpoints"
    }
    assert callers == {("gateway", 443), ("model", 443), ("control", 443)}
    doors = registered.of("ec2/vpcEndpoint:VpcEndpoint")
    groups = {group for door in doors for group in door.inputs.get("securityGroupIds", ())}
    assert {named[group] for group in groups} == {"endpoints"}


def test_nodes_boot_after_the_endpoints(made: Made) -> None:
    """A node that boots before them finds no configuration, and is replaced."""
    registered = made("secured")
    doors = {e.urn for e in registered.of("ec2/vpcEndpoint:VpcEndpoint")}
    for group in registered.of("autoscaling/group:Group"):
        assert doors <= set(group.dependencies)


def test_doors_let_pass_what_roles_may_do_and_nothing_more(made: Made) -> None:
    """An action that a role gets needs its door, and one that no role has any more is shut."""
    # Lambda itself calls these, from outside; S3 has a gateway, and SQS asks KMS for its readers.
    elsewhere = re.compile(
        r"(kms|s3|lambda):.*|ec2:.*(NetworkInterface|Subnets|PrivateIpAddresses).*|logs:CreateLogGroup"
        # The last three are Auto Scaling's and the Fault Injection Service's own calls.
        r"|sqs:GetQueueAttributes|ec2:(RunInstances|SendSpotInstanceInterruptions)|iam:PassRole"
    )
    by_roles = {action for s in role_statements(made("secured")) for action in s["Action"]}
    through = {action for actions in ALLOWED.values() for action in actions}
    # Of settings that this stack has not.
    by_roles |= {"secretsmanager:GetSecretValue"}
    assert {action for action in by_roles if not elsewhere.fullmatch(action)} == through


def test_doors_are_for_this_account(made: Made) -> None:
    """Credentials of another account get through none; what carries data leads nowhere else."""
    doors = [e.inputs for e in made("secured").of("ec2/vpcEndpoint:VpcEndpoint")]
    assert len(doors) == len(ALLOWED) + 1
    for door in doors:
        service = door["serviceName"].rpartition(".")[2]
        for statement in statements(door["policy"]):
            asked = statement["Condition"]["StringEquals"]
            assert asked["aws:PrincipalAccount"] == ACCOUNT.id
            carries = service in ("s3", "logs", "sqs", "secretsmanager")
            assert asked.get("aws:ResourceAccount") == (ACCOUNT.id if carries else None)


def test_s3_gives_weights_and_takes_nothing() -> None:
    """No action writes; another account's bucket is reached where the stack names it."""
    own, objects, listing = statements(s3_policy(ACCOUNT, ["s3://theirs/models"]))
    assert own["Action"] == ["s3:GetObject", "s3:ListBucket"]
    assert objects["Resource"] == ["arn:aws:s3:::theirs/models*"]
    assert listing["Condition"]["StringLike"] == {"s3:prefix": "models*"}
    for statement in (objects, listing):
        assert statement["Condition"]["StringEquals"] == {"aws:PrincipalAccount": ACCOUNT.id}
