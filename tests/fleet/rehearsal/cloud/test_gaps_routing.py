"""Gaps of moto 5.2.5 in gateway endpoints: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain


def moved(aws: Aws) -> tuple[str, str, str]:
    """An endpoint that has left its first route table for a second one."""
    first, second = (aws.ec2.create_route_table(VpcId=aws.vpc)["RouteTable"]["RouteTableId"] for _ in "ab")
    service = "com.amazonaws.us-east-1.s3"
    made = aws.ec2.create_vpc_endpoint(
        VpcId=aws.vpc, ServiceName=service, VpcEndpointType="Gateway", RouteTableIds=[first]
    )
    endpoint = made["VpcEndpoint"]["VpcEndpointId"]
    aws.ec2.modify_vpc_endpoint(
        VpcEndpointId=endpoint, AddRouteTableIds=[second], RemoveRouteTableIds=[first]
    )
    return endpoint, first, second


def routed(aws: Aws, table: str, endpoint: str) -> bool:
    (found,) = aws.ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    return endpoint in [route.get("GatewayId") for route in found["Routes"]]


def test_an_endpoints_route_moves_with_its_tables(plain: Plain, emulate: Emulate) -> None:
    """What leads to it stands in the tables that it has now, so that it can be deleted."""
    with plain() as aws:
        endpoint, first, second = moved(aws)
        assert (routed(aws, first, endpoint), routed(aws, second, endpoint)) == (True, False)
        with pytest.raises(ClientError, match="InvalidRoute"):
            aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    with emulate() as aws:
        endpoint, first, second = moved(aws)
        assert (routed(aws, first, endpoint), routed(aws, second, endpoint)) == (False, True)
        aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
        (gone,) = aws.ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"]
        assert gone["State"] == "deleted"
