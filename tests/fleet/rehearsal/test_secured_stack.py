"""The program with every setting of security on, on the emulated cloud: up, nothing to do, nothing left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.rehearsal import policies
from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.engine import PulumiEngine
from fleet.rehearsal.resources import Aws

PROJECT = Path(__file__).parents[3]
STACK = "rehearsal"
SECURED = {
    "goldenfleet:security": {"key": "own", "accessLogs": True, "flowLogs": True},
    "goldenfleet:edge": {"waf": "managed"},
    "goldenfleet:network": {"nat": "none", "endpoints": True},
    "goldenfleet:alarms": {"email": "ops@example.com"},
}
LISTS = {
    "s3.ListBuckets": ("Buckets", "Name"),
    "ec2.DescribeFlowLogs": ("FlowLogs", "FlowLogId"),
    "ec2.DescribeVpcEndpoints": ("VpcEndpoints", "VpcEndpointId"),
    "ec2.DescribeSecurityGroups": ("SecurityGroups", "GroupId"),
    "kms.ListAliases": ("Aliases", "AliasName"),
    "sns.ListTopics": ("Topics", "TopicArn"),
}


class Nobody:
    """Instances without nodes."""

    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    tiers = yaml.safe_load((PROJECT / f"Pulumi.{STACK}.yaml").read_text())["config"]["goldenfleet:tiers"]
    with Cloud(time_scale=0.1, seed=1, listener=Nobody()) as cloud:
        for tier in tiers:
            cloud.register_image(tier["recipe"], STACK, tier["channel"])
        yield cloud


def account(aws: Aws) -> Mapping[str, list[str]]:
    found = {
        call: sorted(str(item[name]) for item in aws.call(call).get(many, ()) if _there(item))
        for call, (many, name) in LISTS.items()
    }
    acls = aws.call("wafv2.ListWebACLs", Scope="REGIONAL")["WebACLs"]
    return {**found, "web ACLs": [acl["Name"] for acl in acls]}


def _there(item: Mapping[str, Any]) -> bool:
    """EC2 goes on telling of some things for a while after they have gone."""
    return item.get("State") != "deleted"


def test_a_secured_stack_lives_and_leaves_nothing(cloud: Cloud, tmp_path: Path) -> None:
    """A second up changes nothing, all policies hold once all is known, and a destroy takes all away."""
    config = {key: json.dumps(value) for key, value in SECURED.items()}
    state = tmp_path / "state.json"
    url = cloud.endpoint_url
    engine = PulumiEngine(PROJECT, STACK, endpoint_url=url, state_file=state, config=config)
    aws = Aws(cloud.endpoint_url, "us-east-1")
    empty = account(aws)

    preview = engine.preview()
    before = policies.judge(preview.declared, production=False)
    up = engine.up()
    again = engine.up()
    assert again.summary() == {"same": len(up.steps)}
    known = policies.judge(again.declared, production=False)
    assert known.undecided == ()
    assert set(before.undecided) > set()
    _assert_in_force(aws, up.outputs)

    engine.destroy()
    assert account(aws) == empty


def _assert_in_force(aws: Aws, outputs: Mapping[str, Any]) -> None:
    """AWS has what the program asked for, and not only the engine's state."""
    balancer = outputs["loadBalancerArn"]
    attributes = {
        item["Key"]: item["Value"]
        for item in aws.call("elbv2.DescribeLoadBalancerAttributes", LoadBalancerArn=balancer)["Attributes"]
    }
    assert attributes["access_logs.s3.enabled"] == "true"
    bucket = attributes["access_logs.s3.bucket"]
    (flows,) = aws.call("ec2.DescribeFlowLogs")["FlowLogs"]
    assert flows["LogDestination"] == f"arn:aws:s3:::{bucket}"
    block = aws.call("s3.GetPublicAccessBlock", Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    guarded = aws.call("wafv2.GetWebACLForResource", ResourceArn=balancer)
    assert len(guarded["WebACL"]["Rules"]) == 3
    queue = aws.call("sqs.GetQueueAttributes", QueueUrl=outputs["noticeQueueUrl"], AttributeNames=["All"])
    assert ":key/" in queue["Attributes"]["KmsMasterKeyId"]
    endpoints = aws.call("ec2.DescribeVpcEndpoints")["VpcEndpoints"]
    assert {e["VpcEndpointType"] for e in endpoints} == {"Interface", "Gateway"}
    assert not aws.call("ec2.DescribeNatGateways")["NatGateways"]
