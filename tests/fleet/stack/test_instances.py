"""What nodes are launched as, in every stack of the project."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.fleet.stack.conftest import Registered

TIERS = ("gateway", "model")


def test_metadata_service_asks_for_a_token(registered: Registered) -> None:
    """IMDSv2 only, and two hops for an engine in a container."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        assert template.inputs["metadataOptions"] == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 2,
        }


def test_volumes_are_encrypted(registered: Registered) -> None:
    """The image's own root device, as gp3 whose operations allow its throughput, and no other."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        (mapping,) = template.inputs["blockDeviceMappings"]
        volume = mapping["ebs"]
        assert mapping["deviceName"] == "/dev/sda1"
        assert (volume["encrypted"], volume["volumeType"]) == ("true", "gp3")
        assert volume["throughput"] <= volume["iops"] / 4


def test_weights_come_on_their_own_volume(mappings: Callable[[str], list[dict[str, Any]]]) -> None:
    """From the image's snapshot at its rate, throughput and operations; a word on encryption AWS refuses."""
    root, weights = mappings("weights volume")
    assert weights == {
        "deviceName": "/dev/sdf",
        "ebs": {
            "snapshotId": "snap-2",
            "volumeInitializationRate": 300,
            "volumeSize": 17,
            "volumeType": "gp3",
            "throughput": 500,
            "iops": 4000,
            "deleteOnTermination": "true",
        },
    }
    assert "volumeInitializationRate" not in root["ebs"]
    assert "volumeInitializationRate" not in mappings("own pace")[1]["ebs"]


def test_a_root_that_holds_the_weights_is_as_fast_as_they_ask(
    mappings: Callable[[str], list[dict[str, Any]]],
) -> None:
    """The image's throughput, operations and rate, where the stack asks for less; the stack's own size."""
    (root,) = mappings("weights on the root")
    assert root["ebs"] == {
        "volumeInitializationRate": 200,
        "volumeSize": 16,
        "volumeType": "gp3",
        "throughput": 1000,
        "iops": 5000,
        "encrypted": "true",
        "deleteOnTermination": "true",
    }


def test_nodes_have_no_public_address_and_no_key(registered: Registered) -> None:
    """Nothing gives one: template, subnet, or a subnet with a way in."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        assert not {"keyName", "networkInterfaces"} & set(template.inputs)
    subnets = registered.of("ec2/subnet:Subnet")
    assert not any(subnet.inputs["mapPublicIpOnLaunch"] for subnet in subnets)
    private = {subnet.id for subnet in subnets if "-private-" in subnet.name}
    for tier in TIERS:
        assert set(registered.one("autoscaling/group:Group", tier).inputs["vpcZoneIdentifiers"]) == private


def test_private_subnets_lead_out_through_nat_only(registered: Registered) -> None:
    """Every private subnet has one table whose way out is a NAT gateway; production has one a zone."""
    routes = {r.inputs["routeTableId"]: r.inputs for r in registered.of("ec2/route:Route")}
    associations = registered.of("ec2/routeTableAssociation:RouteTableAssociation")
    tables = {a.inputs["subnetId"]: a.inputs["routeTableId"] for a in associations}
    private = [s.id for s in registered.of("ec2/subnet:Subnet") if "-private-" in s.name]
    nats = {routes[tables[subnet]]["natGatewayId"] for subnet in private}
    assert not any("gatewayId" in routes[tables[subnet]] for subnet in private)
    assert len(nats) == (3 if registered.stack == "prod" else 1)


@pytest.mark.parametrize("tier", TIERS)
def test_user_data_names_role_tier_and_stack_only(registered: Registered, tier: str) -> None:
    """The image holds all the rest."""
    template = registered.one("ec2/launchTemplate:LaunchTemplate", tier)
    script = base64.b64decode(template.inputs["userData"]).decode()
    assert (
        script == f"#!/bin/sh\nexec goldenfleet-boot --role {tier} --tier {tier} --stack {registered.stack}\n"
    )


def test_instances_are_watched_each_minute(registered: Registered) -> None:
    """Target tracking on five-minute metrics reacts too late."""
    for template in registered.of("ec2/launchTemplate:LaunchTemplate"):
        assert template.inputs["monitoring"] == {"enabled": True}
