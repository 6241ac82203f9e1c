"""Where the stack lives: a public subnet a zone for the load balancer, a private one for the nodes.

Either in a VPC of its own, or in one that exists, whose subnets are then looked at before anything is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

import pulumi
import pulumi_aws as aws

from fleet.errors import SettingsError
from fleet.stack import settings
from fleet.stack.encryption import Account
from fleet.stack.endpoints import s3_policy
from fleet.stack.existing_network import Found, find
from fleet.stack.naming import resource_name
from fleet.stack.settings_network import Room

ANYWHERE = "0.0.0.0/0"

Subnets = Mapping[str, pulumi.Input[str]]
"""Logical name -> id."""

_AVAILABILITY_ZONE = re.compile(r"[a-z]+(-[a-z]+)+-\d+[a-z]")


class Network(pulumi.ComponentResource):
    """Depend on the component where a node boots: it needs the routes, not only its subnet."""

    vpc_id: pulumi.Input[str]
    public_subnet_ids: Sequence[pulumi.Input[str]]
    private_subnet_ids: Sequence[pulumi.Input[str]]
    public_blocks: Sequence[IPv4Network]
    """Where the load balancer's own addresses are from."""

    def __init__(self, stack: str, plan: settings.Network, room: Room, weights: Sequence[str]) -> None:
        """`room` is what each zone must have, `weights` where in S3 nodes read.

        Raises SettingsError.
        """
        self._name = resource_name(stack, "network")
        found = find(plan.existing, room) if plan.existing else None
        super().__init__("goldenfleet:stack:Network", self._name)
        self._child = pulumi.ResourceOptions(parent=self)
        if found is not None:
            self._live_in(found)
        else:
            self._make(plan, weights)
        self.register_outputs({"vpcId": self.vpc_id})

    def _live_in(self, found: Found) -> None:
        self.vpc_id = found.vpc_id
        self.public_subnet_ids = found.public_subnet_ids
        self.private_subnet_ids = found.private_subnet_ids
        self.public_blocks = found.public_blocks

    def _make(self, plan: settings.Network, weights: Sequence[str]) -> None:
        zones = chosen_zones(aws.get_availability_zones(state="available").names, plan.zones)
        self.vpc_id = aws.ec2.Vpc(
            self._name,
            cidr_block=str(plan.cidr),
            enable_dns_support=True,
            enable_dns_hostnames=True,
            opts=self._child,
        ).id
        public = self._subnets("public", zones, plan.public_blocks)
        private = self._subnets("private", zones, plan.private_blocks)
        self.public_subnet_ids = list(public.values())
        self.private_subnet_ids = list(private.values())
        self.public_blocks = plan.public_blocks
        internet = self._to_internet(public)
        match plan.nat:
            case "none":
                tables = [self._table("private", private)]
            case "single":
                tables = [self._nat_table(zones[0], self.public_subnet_ids[0], private, internet)]
            case "per-zone":
                served = zip(zones, self.public_subnet_ids, private.items(), strict=True)
                tables = [self._nat_table(zone, way, dict([own]), internet) for zone, way, own in served]
        self._to_s3([table.id for table in tables], weights)

    def _subnets(self, kind: str, zones: Sequence[str], blocks: Sequence[IPv4Network]) -> Subnets:
        return {
            f"{self._name}-{kind}-{zone}": aws.ec2.Subnet(
                f"{self._name}-{kind}-{zone}",
                vpc_id=self.vpc_id,
                cidr_block=str(block),
                availability_zone=zone,
                map_public_ip_on_launch=False,
                opts=self._child,
            ).id
            for zone, block in zip(zones, blocks, strict=True)
        }

    def _to_internet(self, public: Subnets) -> aws.ec2.InternetGateway:
        gateway = aws.ec2.InternetGateway(self._name, vpc_id=self.vpc_id, opts=self._child)
        table = self._table("public", public)
        aws.ec2.Route(
            f"{self._name}-public",
            route_table_id=table.id,
            destination_cidr_block=ANYWHERE,
            gateway_id=gateway.id,
            opts=self._child,
        )
        return gateway

    def _nat_table(
        self,
        zone: str,
        public: pulumi.Input[str],
        served: Subnets,
        internet: aws.ec2.InternetGateway,
    ) -> aws.ec2.RouteTable:
        name = f"{self._name}-{zone}"
        address = aws.ec2.Eip(name, domain="vpc", opts=self._child)
        # AWS refuses a NAT gateway in a VPC that has no internet gateway attached yet.
        after = pulumi.ResourceOptions(parent=self, depends_on=[internet])
        nat = aws.ec2.NatGateway(name, allocation_id=address.id, subnet_id=public, opts=after)
        table = self._table(zone, served)
        aws.ec2.Route(
            name,
            route_table_id=table.id,
            destination_cidr_block=ANYWHERE,
            nat_gateway_id=nat.id,
            opts=self._child,
        )
        return table

    def _table(self, part: str, served: Subnets) -> aws.ec2.RouteTable:
        """Associations are named by their subnets, so that they move to another table.

        AWS refuses a second one of a subnet (Resource.AlreadyAssociated).
        """
        table = aws.ec2.RouteTable(f"{self._name}-{part}", vpc_id=self.vpc_id, opts=self._child)
        for name, subnet in served.items():
            aws.ec2.RouteTableAssociation(name, subnet_id=subnet, route_table_id=table.id, opts=self._child)
        return table

    def _to_s3(self, tables: Sequence[pulumi.Output[str]], weights: Sequence[str]) -> None:
        """Weights come from S3; this way they cost no NAT traffic."""
        account = Account.here()
        aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=self.vpc_id,
            service_name=f"com.amazonaws.{account.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=list(tables),
            policy=s3_policy(account, weights),
            opts=self._child,
        )


def chosen_zones(names: Sequence[str], wanted: int) -> tuple[str, ...]:
    """The first `wanted` availability zones; local and wavelength zones (us-east-1-bos-1a) are none."""
    zones = sorted(name for name in names if _AVAILABILITY_ZONE.fullmatch(name))
    if len(zones) < wanted:
        raise SettingsError(
            f"goldenfleet:network.zones is {wanted}, and the region has {len(zones)}: {', '.join(zones)}",
            f"Set zones to {len(zones)} or choose another aws:region.",
        )
    return tuple(zones[:wanted])
