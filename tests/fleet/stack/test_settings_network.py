"""Settings of the network, and of what can be reached from it."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from fleet.stack.existing_network import Subnet, crowded, problems
from fleet.stack.settings import Settings
from fleet.stack.settings_network import Room
from tests.fleet.stack.given import GOOD, changed, refusal

EXISTING = {
    "vpcId": "vpc-0a1b2c3d",
    "publicSubnetIds": ["subnet-00000001", "subnet-00000002"],
    "privateSubnetIds": ["subnet-00000003", "subnet-00000004"],
}


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            {"existing": EXISTING, "zones": 3},
            "network: existing is set, and so is zones, which is that network's",
        ),
        (
            {"existing": {**EXISTING, "vpcId": "vpc"}},
            "network.existing.vpcId: must be the id of a VPC, such as",
        ),
        ({"existing": {**EXISTING, "privateSubnetIds": ["subnet-00000003"]}}, "at least 2 entries"),
        (
            {"existing": {**EXISTING, "privateSubnetIds": EXISTING["publicSubnetIds"]}},
            "name subnet-00000001, subnet-00000002 more than once: a subnet is public or private",
        ),
    ],
)
def test_networks_that_exist_are_named_in_full(network: dict[str, Any], says: str) -> None:
    """What is theirs cannot be set, and a subnet is of one kind."""
    assert says in refusal({**GOOD, "goldenfleet:network": network})
    assert Settings.from_config("dev", {**GOOD, "goldenfleet:network": {"existing": EXISTING}})


@pytest.mark.parametrize(
    ("group", "given", "says"),
    [
        ("telemetry", {"tracesHeaders": "ssm:/a"}, "tracesHeaders is set and tracesUrl is not"),
        ("telemetry", {"tracesUrl": "https://a.example:4318"}, "tracesUrl names port 4318"),
        ("telemetry", {"tracesUrl": "https://a.example:99999"}, "tracesUrl has a port that is none"),
        ("telemetry", {"tracesUrl": "http://a.example"}, "tracesUrl"),
        ("access", {"limitsUrl": "ssm:/redis"}, "limitsSecurityGroup is missing"),
        ("access", {"limitsSecurityGroup": "sg-0123abcd"}, "limitsUrl is not: set limitsUrl or remove"),
        (
            "access",
            {"jwksUrl": "https://id.example:8443/k", "issuer": "i", "audience": "a"},
            "jwksUrl names port 8443",
        ),
        ("security", {"permissionsBoundary": "bounded"}, "permissionsBoundary"),
    ],
)
def test_what_nodes_could_not_reach_is_refused(group: str, given: dict[str, Any], says: str) -> None:
    """Ways out are HTTPS on its port, and what a security group names; a secret for nothing is a mistake."""
    assert says in refusal({**GOOD, f"goldenfleet:{group}": given})


def test_traces_need_a_way_out() -> None:
    """A VPC without one has doors to AWS only."""
    closed = {
        **GOOD,
        "goldenfleet:network": {"nat": "none", "endpoints": True},
        "goldenfleet:telemetry": {"tracesUrl": "https://traces.example.com"},
    }
    assert "goldenfleet:telemetry.tracesUrl is set, and goldenfleet:network.nat is none" in refusal(closed)


def test_tokens_need_a_way_out() -> None:
    """The issuer's keys are fetched by gateways."""
    config = {
        **GOOD,
        "goldenfleet:network": {"nat": "none", "endpoints": True},
        "goldenfleet:access": {"jwksUrl": "https://id.example.com/keys", "issuer": "i", "audience": "a"},
    }
    assert "goldenfleet:access.jwksUrl is set, and goldenfleet:network.nat is none" in refusal(config)


def test_nodes_must_fit_into_one_zone() -> None:
    """The sum of the tiers' max is held against a zone's subnet, with how many are too many."""
    config = changed("network.cidr", "10.0.0.0/19")
    config["goldenfleet:tiers"][1]["capacity"]["max"] = 600
    assert "add up to 604 nodes, beside which balancers, endpoints and control take 9" in refusal(config)
    assert "holds 507 addresses: lower max by 106" in refusal(config)
    config["goldenfleet:tiers"][1]["capacity"]["max"] = 494
    assert Settings.from_config("dev", config)
    config["goldenfleet:network"] |= {"endpoints": True}
    assert "control take 18, and" in refusal(config)


def test_addresses_that_the_stack_itself_has_taken_do_not_stop_its_update() -> None:
    """A subnet is refused for its size; for what is free in it there is a warning, if it is little."""
    block, room = IPv4Network("10.7.0.0/24"), Room(nodes=200, beside=9)
    private = [Subnet("subnet-1", "vpc-1", "us-east-1a", block, 60, leads_in=False)]
    assert list(problems("vpc-1", [], private, room)) == []
    (warning,) = crowded(private, room)
    assert "subnet-1 of goldenfleet:network.existing.privateSubnetIds has 60 free addresses" in warning
    assert not list(crowded([private[0]._replace(free=209)], room))
    (refused,) = problems("vpc-1", [], private, Room(nodes=250, beside=9))
    assert "holds 251 addresses" in refused
    assert "lower max by 8 in all" in refused
