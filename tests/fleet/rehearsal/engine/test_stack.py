"""The project's own program on the emulated cloud: preview, up, nothing to do, one change, destroy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.engine import PulumiEngine, Result
from fleet.rehearsal.resources import Aws
from images.builders import Volume
from images.launch import parameter, value

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
    return {tier["name"]: tier for tier in document["config"][TIERS]}


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


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(time_scale=0.1, seed=1, listener=Nobody()) as cloud:
        for tier in tiers().values():
            cloud.register_image(tier["recipe"], STACK, tier["channel"])
        yield cloud


def snapshot(aws: Aws) -> str:
    volume = aws.call("ec2.CreateVolume", Size=2, AvailabilityZone="us-east-1a", Encrypted=True)["VolumeId"]
    made = str(aws.call("ec2.CreateSnapshot", VolumeId=volume)["SnapshotId"])
    aws.call("ec2.DeleteVolume", VolumeId=volume)
    return made


def test_nodes_get_the_volumes_that_their_image_asks_for(cloud, tmp_path) -> None:
    """What a bake wrote to SSM is in the template that AWS has, and on every node that it launched."""
    aws = Aws(cloud.endpoint_url, "us-east-1")
    recipe, channel = tiers()["model"]["recipe"], tiers()["model"]["channel"]
    pointer = aws.call("ssm.GetParameter", Name=f"/goldenfleet/{STACK}/image/{recipe}/{channel}")
    image_id, snapshot_id = pointer["Parameter"]["Value"], snapshot(aws)
    asked = Volume("weights", "/dev/sdf", snapshot_id, 3, 500, 4000, 300)
    aws.call("ssm.PutParameter", Name=parameter(STACK, image_id), Value=value([asked]), Type="String")
    engine = PulumiEngine(PROJECT, STACK, endpoint_url=cloud.endpoint_url, state_file=tmp_path / "state.json")
    up = engine.up()
    template = aws.call(
        "ec2.DescribeLaunchTemplateVersions",
        LaunchTemplateId=up.outputs["tiers"]["model"]["launchTemplateId"],
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    _, weights = template["BlockDeviceMappings"]
    assert weights["DeviceName"] == "/dev/sdf"
    assert weights["Ebs"]["SnapshotId"] == snapshot_id
    assert weights["Ebs"]["VolumeInitializationRate"] == 300
    assert (weights["Ebs"]["Throughput"], weights["Ebs"]["Iops"]) == (500, 4000)
    launched = aws.call("ec2.DescribeInstances")["Reservations"]
    nodes = [node for reservation in launched for node in reservation["Instances"]]
    assert nodes
    assert all("/dev/sdf" in {each["DeviceName"] for each in node["BlockDeviceMappings"]} for node in nodes)


def expect_rollouts(aws: Aws, rolled: Result) -> None:
    """A new image changes templates alone, and every group is on its way to its template's new number; what
    the group itself says is what it would go back to."""
    kinds = Counter(s.type.rpartition(":")[2] for s in rolled.steps if s.op != "same")
    assert kinds == {"LaunchTemplate": len(tiers()), "Rollout": len(tiers())}
    for tier in rolled.outputs["tiers"].values():
        name = tier["autoScalingGroup"]
        (refresh,) = aws.call("autoscaling.DescribeInstanceRefreshes", AutoScalingGroupName=name)[
            "InstanceRefreshes"
        ]
        groups = aws.call("autoscaling.DescribeAutoScalingGroups", AutoScalingGroupNames=[name])
        now = groups["AutoScalingGroups"][0]["MixedInstancesPolicy"]
        towards = refresh["DesiredConfiguration"]["MixedInstancesPolicy"]
        versions = [p["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] for p in (now, towards)]
        assert versions == ["1", str(tier["launchTemplateVersion"])] == ["1", "2"]
        assert refresh["Preferences"]["AutoRollback"]


def test_the_stack_lives_from_preview_to_destroy_on_the_emulated_cloud(cloud, tmp_path) -> None:
    """Every step is foretold, nothing is done twice, one changed size is one update, a new image is rolled
    out, and nothing is left."""
    url, state = cloud.endpoint_url, tmp_path / "state.json"
    engine = PulumiEngine(PROJECT, STACK, endpoint_url=url, state_file=state)
    aws = Aws(url, "us-east-1")
    empty = account(aws)

    preview, up = engine.preview(), engine.up()
    assert {(s.op, s.urn) for s in preview.steps} == {(s.op, s.urn) for s in up.steps}
    assert up.summary() == {"create": len(up.steps)}
    assert set(up.outputs["tiers"]) == {i.tier for i in cloud.instances()} == set(tiers())

    again = engine.up()
    assert (again.summary(), again.outputs) == ({"same": len(up.steps)}, up.outputs)

    larger = tiers()
    larger["model"]["capacity"]["max"] += 1
    config = {TIERS: json.dumps(list(larger.values()))}
    changed = PulumiEngine(PROJECT, STACK, endpoint_url=url, state_file=state, config=config).up()
    steps = [(s.op, s.type, s.changed) for s in changed.steps if s.op != "same"]
    assert steps == [("update", "aws:autoscaling/group:Group", ("maxSize", "tags"))]  # and fallback's most
    groups = aws.call("autoscaling.DescribeAutoScalingGroups")["AutoScalingGroups"]
    sizes = {group["AutoScalingGroupName"]: group["MaxSize"] for group in groups}
    assert sizes[up.outputs["tiers"]["model"]["autoScalingGroup"]] == larger["model"]["capacity"]["max"]

    cloud.register_image(tiers()["model"]["recipe"], STACK, tiers()["model"]["channel"])
    rolled = PulumiEngine(PROJECT, STACK, endpoint_url=url, state_file=state, config=config).up()
    expect_rollouts(aws, rolled)

    assert engine.destroy().summary() == {"delete": len(up.steps)}
    left = account(aws)
    assert left == empty
    assert left["instances"] == []
