"""A stack in a network that exists, on the emulated cloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.rehearsal.cloud import Cloud, InstanceView
from fleet.rehearsal.engine import DeploymentError, PulumiEngine
from fleet.rehearsal.resources import Aws

PROJECT = Path(__file__).parents[3]
STACK = "rehearsal"


class Nobody:
    """Instances without nodes."""

    def launched(self, instance: InstanceView) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(time_scale=0.02, seed=1, listener=Nobody()) as cloud:
        cloud.register_image("rehearsal", STACK, "dev")
        yield cloud


@pytest.fixture
def aws(cloud: Cloud) -> Aws:
    return Aws(cloud.endpoint_url, "us-east-1")


@pytest.fixture
def network(aws: Aws) -> dict[str, Any]:
    """A VPC with a table that leads to the internet, and its main one, which does not."""
    vpc = aws.call("ec2.CreateVpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    gateway = aws.call("ec2.CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    aws.call("ec2.AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    table = aws.call("ec2.CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    aws.call("ec2.CreateRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    public = [_subnet(aws, vpc, number, "ab"[number]) for number in range(2)]
    private = [_subnet(aws, vpc, 16 + number, "ab"[number]) for number in range(2)]
    for subnet in public:
        aws.call("ec2.AssociateRouteTable", RouteTableId=table, SubnetId=subnet)
    return {"vpcId": vpc, "publicSubnetIds": public, "privateSubnetIds": private}


def _subnet(aws: Aws, vpc: str, number: int, zone: str) -> str:
    made = aws.call(
        "ec2.CreateSubnet",
        VpcId=vpc,
        CidrBlock=f"10.9.{number}.0/24",
        AvailabilityZone=f"us-east-1{zone}",
    )
    return str(made["Subnet"]["SubnetId"])


def engine(cloud: Cloud, state: Path, existing: dict[str, Any]) -> PulumiEngine:
    config = {"goldenfleet:network": json.dumps({"existing": existing})}
    return PulumiEngine(PROJECT, STACK, endpoint_url=cloud.endpoint_url, state_file=state, config=config)


def networks(aws: Aws) -> dict[str, list[str]]:
    lists = {
        "ec2.DescribeVpcs": ("Vpcs", "VpcId"),
        "ec2.DescribeSubnets": ("Subnets", "SubnetId"),
        "ec2.DescribeRouteTables": ("RouteTables", "RouteTableId"),
        "ec2.DescribeInternetGateways": ("InternetGateways", "InternetGatewayId"),
    }
    return {call: sorted(item[id_] for item in aws.call(call)[many]) for call, (many, id_) in lists.items()}


def test_it_is_lived_in_and_left_as_it_was(
    cloud: Cloud, aws: Aws, network: dict[str, Any], tmp_path: Path
) -> None:
    """Nodes are in its private subnets, and a destroy takes nothing of it away."""
    before = networks(aws)
    stack = engine(cloud, tmp_path / "state.json", network)
    stack.up()
    assert networks(aws) == before
    assert {instance.subnet_id for instance in cloud.instances()} == set(network["privateSubnetIds"])
    assert stack.up().summary().keys() == {"same"}
    stack.destroy()
    assert networks(aws) == before


def test_subnets_that_lead_in_are_no_place_for_nodes(
    cloud: Cloud, network: dict[str, Any], tmp_path: Path
) -> None:
    """Public and private ones exchanged are refused before anything is made."""
    public, private = network["publicSubnetIds"], network["privateSubnetIds"]
    exchanged = {**network, "publicSubnetIds": private, "privateSubnetIds": public}
    with pytest.raises(DeploymentError, match=f"{private[0]} of .*publicSubnetIds has no route") as caught:
        engine(cloud, tmp_path / "state.json", exchanged).up()
    assert f"{public[0]} of goldenfleet:network.existing.privateSubnetIds has a route" in str(caught.value)
