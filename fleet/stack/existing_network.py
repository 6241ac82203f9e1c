"""A network that exists already: looked up, and held against what a stack needs of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

import pulumi_aws as aws

from fleet.errors import SettingsError
from fleet.stack.settings_base import NAMESPACE
from fleet.stack.settings_network import ExistingNetwork

_WHERE = f"{NAMESPACE}:network.existing"


class Found(NamedTuple):
    vpc_id: str
    public_subnet_ids: tuple[str, ...]
    private_subnet_ids: tuple[str, ...]
    public_blocks: tuple[IPv4Network, ...]


class Subnet(NamedTuple):
    """`leads_in` says whether it has a route to an internet gateway; `free` are its unused addresses."""

    id: str
    vpc_id: str
    zone: str
    block: IPv4Network
    free: int
    leads_in: bool


def find(asked: ExistingNetwork, nodes: int) -> Found:
    """Raises SettingsError with everything that does not fit; `nodes` is what one zone must have room for."""
    public = [_look_up(id_) for id_ in asked.public_subnet_ids]
    private = [_look_up(id_) for id_ in asked.private_subnet_ids]
    if said := list(problems(asked.vpc_id, public, private, nodes)):
        raise SettingsError(
            "; ".join(said), "Correct the subnets, or remove existing to have a network made."
        )
    blocks = tuple(subnet.block for subnet in public)
    return Found(asked.vpc_id, asked.public_subnet_ids, asked.private_subnet_ids, blocks)


def problems(vpc_id: str, public: Sequence[Subnet], private: Sequence[Subnet], nodes: int) -> Iterator[str]:
    """What keeps a stack of `nodes` from living there."""
    for subnet in (*public, *private):
        if subnet.vpc_id != vpc_id:
            yield f"{subnet.id} is in {subnet.vpc_id}, and {_WHERE}.vpcId is {vpc_id}"
    for name, subnets in (("publicSubnetIds", public), ("privateSubnetIds", private)):
        zones = [subnet.zone for subnet in subnets]
        if len(set(zones)) < len(zones):
            yield f"{_WHERE}.{name} has two subnets of one zone ({', '.join(zones)}): name one a zone"
    for subnet in public:
        if not subnet.leads_in:
            yield f"{subnet.id} of {_WHERE}.publicSubnetIds has no route to an internet gateway"
    for subnet in private:
        if subnet.leads_in:
            yield f"{subnet.id} of {_WHERE}.privateSubnetIds has a route to an internet gateway"
        if subnet.free < nodes:
            yield (
                f"{subnet.id} of {_WHERE}.privateSubnetIds has {subnet.free} free addresses, and the tiers' "
                f"capacity.max add up to {nodes} nodes, all of which a spot drought may put there: lower max "
                f"by {nodes - subnet.free} in all or name a larger subnet"
            )


def _look_up(subnet_id: str) -> Subnet:
    try:
        found = aws.ec2.get_subnet(id=subnet_id)
        leads_in = _leads_in(subnet_id, found.vpc_id)
    except Exception as exc:  # pulumi raises nothing narrower when a look-up fails
        raise SettingsError(
            f"{subnet_id} of {_WHERE} cannot be looked up ({exc})",
            "Check its id and the region, and allow ec2:DescribeSubnets and ec2:DescribeRouteTables.",
        ) from exc
    return Subnet(
        subnet_id,
        found.vpc_id,
        found.availability_zone,
        IPv4Network(found.cidr_block),
        found.available_ip_address_count,
        leads_in,
    )


def _leads_in(subnet_id: str, vpc_id: str) -> bool:
    own = _tables("association.subnet-id", subnet_id, vpc_id)
    # A subnet that no table is associated with follows the VPC's main one.
    tables = own or _tables("association.main", "true", vpc_id)
    routes = [route for table in tables for route in aws.ec2.get_route_table(route_table_id=table).routes]
    return any((route.gateway_id or "").startswith("igw-") for route in routes)


def _tables(key: str, value: str, vpc_id: str) -> Sequence[str]:
    wanted = aws.ec2.GetRouteTablesFilterArgs(name=key, values=[value])
    return aws.ec2.get_route_tables(vpc_id=vpc_id, filters=[wanted]).ids
