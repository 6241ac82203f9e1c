"""A network that exists already: looked up, and held against what a stack needs of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

import pulumi
import pulumi_aws as aws

from fleet.errors import SettingsError
from fleet.stack.settings_base import NAMESPACE
from fleet.stack.settings_network import ExistingNetwork, Room

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


def find(asked: ExistingNetwork, room: Room) -> Found:
    """Raises SettingsError with everything that does not fit."""
    public = [_look_up(id_) for id_ in asked.public_subnet_ids]
    private = [_look_up(id_) for id_ in asked.private_subnet_ids]
    if said := list(problems(asked.vpc_id, public, private, room)):
        raise SettingsError(
            "; ".join(said), "Correct the subnets, or remove existing to have a network made."
        )
    for warning in crowded(private, room):
        pulumi.log.warn(warning)
    blocks = tuple(subnet.block for subnet in public)
    return Found(asked.vpc_id, asked.public_subnet_ids, asked.private_subnet_ids, blocks)


def problems(vpc_id: str, public: Sequence[Subnet], private: Sequence[Subnet], room: Room) -> Iterator[str]:
    """What keeps a stack that needs `room` from living there."""
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
        if (lacking := room.lacking_in(subnet.block)) > 0:
            yield (
                f"{subnet.id} of {_WHERE}.privateSubnetIds holds {room.addresses - lacking} addresses, and "
                f"the tiers' capacity.max add up to {room}, all of which a spot drought may put there: lower "
                f"max by {lacking} in all or name a larger subnet"
            )


def crowded(private: Sequence[Subnet], room: Room) -> Iterator[str]:
    """What is no reason to refuse: the stack's own nodes take addresses, too, and it must be updated all the
    same.
    """
    for subnet in private:
        if subnet.free < room.addresses:
            yield (
                f"{subnet.id} of {_WHERE}.privateSubnetIds has {subnet.free} free addresses, and the tiers' "
                f"capacity.max add up to {room}: beside what this stack has there already, that may not fit"
            )


def _look_up(subnet_id: str) -> Subnet:
    try:
        found = aws.ec2.get_subnet(id=subnet_id)
        leads_in = _leads_in(subnet_id, found.vpc_id)
    except Exception as exc:  # pulumi raises nothing narrower when a look-up fails
        raise SettingsError(
            f"{subnet_id} of {_WHERE} cannot be looked up ({exc})",
            "Check its id and the region, and allow ec2:DescribeSubnets and ec2:DescribeRouteTables. "
            "An empty account has none: preview with --engine pulumi.",
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
