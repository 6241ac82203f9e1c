"""The project's own program on the emulated cloud: preview, up, nothing to do, one change, destroy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.engine import PulumiEngine
from fleet.rehearsal.resources import Aws

PROJECT = Path(__file__).parents[4]
STACK = "rehearsal"
TIERS = "goldenfleet:tiers"


class Nobody:
    """Instances without nodes."""

    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


def tiers() -> dict[str, Any]:
    document = yaml.safe_load((PROJECT / f"Pulumi.{STACK}.yaml").read_text())
    return dict(document["config"][TIERS])


def account(aws: Aws) -> dict[str, list[str]]:
    """What there is, by ids and names, of everything that a stack is made of."""
    lists = {
        "ec2.DescribeVpcs": ("Vpcs", "VpcId"),
        "ec2.DescribeSubnets": ("Subnets", "SubnetId"),
        "ec2.DescribeInternetGateways": ("InternetGateways", "InternetGatewayId"),
        "ec2.DescribeAddresses": ("Addresses", "AllocationId"),
        "ec2.DescribeRouteTables": ("RouteTables", "RouteTableId"),
        "ec2.DescribeSecurityGroups": ("SecurityGroups", "GroupId"),
        "ec2.DescribeSecurityGroupRules": ("SecurityGroupRules", "SecurityGroupRuleId"),
        "ec2.DescribeLaunchTemplates": ("LaunchTemplates", "LaunchTemplateId"),
        "elbv2.DescribeLoadBalancers": ("LoadBalancers", "LoadBalancerArn"),
        "elbv2.DescribeTargetGroups": ("TargetGroups", "TargetGroupArn"),
        "autoscaling.DescribeAutoScalingGroups": ("AutoScalingGroups", "AutoScalingGroupName"),
        "autoscaling.DescribePolicies": ("ScalingPolicies", "PolicyName"),
        "iam.ListRoles": ("Roles", "RoleName"),
        "iam.ListInstanceProfiles": ("InstanceProfiles", "InstanceProfileName"),
        "events.ListRules": ("Rules", "Name"),
        "cloudwatch.DescribeAlarms": ("MetricAlarms", "AlarmName"),
        "logs.DescribeLogGroups": ("logGroups", "logGroupName"),
        "ssm.DescribeParameters": ("Parameters", "Name"),
    }
    found = {
        operation: sorted(str(item[name]) for item in aws.call(operation).get(many, []))
        for operation, (many, name) in lists.items()
    }
    found["sqs"] = aws.call("sqs.ListQueues").get("QueueUrls", [])
    found["instances"] = [
        item["InstanceId"]
        for reservation in aws.call("ec2.DescribeInstances")["Reservations"]
        for item in reservation["Instances"]
        if item["State"]["Name"] != "terminated"
    ]
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with Cloud(time_scale=0.1, seed=1, listener=Nobody()) as cloud:
        for tier in tiers().values():
            cloud.register_image(tier["recipe"], STACK, tier["channel"])
        aws, state = Aws(cloud.endpoint_url, "us-east-1"), tmp_path_factory.mktemp("run") / "state.json"

        def engine(**config: str) -> PulumiEngine:
            return PulumiEngine(
                PROJECT, STACK, endpoint_url=cloud.endpoint_url, state_file=state, config=config
            )

        seen = SimpleNamespace(empty=account(aws))
        seen.preview, seen.up, seen.again = engine().preview(), engine().up(), engine().up()
        seen.instances = {i.tier for i in cloud.instances()}
        larger = tiers()
        larger["model"]["max"] += 1
        seen.changed = engine(**{TIERS: json.dumps(larger)}).up()
        groups = aws.call("autoscaling.DescribeAutoScalingGroups")["AutoScalingGroups"]
        seen.sizes = {group["AutoScalingGroupName"]: group["MaxSize"] for group in groups}
        seen.larger = larger["model"]["max"]
        seen.destroyed = engine().destroy()
        seen.left = account(aws)
        yield seen


def test_the_stack_is_previewed_and_made_alike(story) -> None:
    """The whole program is mapped: its preview tells the steps of its up, all of them creations."""
    told, taken = [{(s.op, s.urn) for s in result.steps} for result in (story.preview, story.up)]
    assert told == taken
    assert set(story.up.summary()) == {"create"}
    assert set(story.up.outputs["tiers"]) == set(tiers())
    assert story.instances == set(tiers())


def test_the_stack_applied_again_changes_nothing(story) -> None:
    """A second up finds nothing to do and tells the same outputs."""
    assert story.again.summary() == {"same": len(story.up.steps)}
    assert story.again.outputs == story.up.outputs


def test_a_changed_size_is_one_update(story) -> None:
    """Only the tier's group changes, in the program's terms and in AWS."""
    changed = [(s.op, s.type, s.changed) for s in story.changed.steps if s.op != "same"]
    assert changed == [("update", "aws:autoscaling/group:Group", ("maxSize",))]
    assert story.sizes[story.up.outputs["tiers"]["model"]["autoScalingGroup"]] == story.larger


def test_destroying_the_stack_empties_the_account(story) -> None:
    """What was there before is there after, and nothing else; no instance is left."""
    assert story.destroyed.summary() == {"delete": len(story.up.steps)}
    assert story.left == story.empty
    assert story.left["instances"] == []
