"""Settings of the network that a stack lives in: one of its own, or one that exists."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StringConstraints, model_validator

from fleet.stack.settings_base import Group, wanted, when

VpcId = Annotated[
    str,
    StringConstraints(pattern=r"^vpc-[0-9a-f]{8,17}$"),
    wanted("the id of a VPC, such as vpc-0123456789abcdef0"),
]
SubnetId = Annotated[
    str,
    StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$"),
    wanted("the id of a subnet, such as subnet-0123456789abcdef0"),
]
SubnetIds = Annotated[tuple[SubnetId, ...], Field(min_length=2, max_length=6)]


INTERFACE_ENDPOINTS = 9
"""Of endpoints.py, each with an address in each zone; a test compares."""

AWS_KEEPS = 5
"""Addresses of every subnet ("Subnet CIDR blocks", VPC guide)."""


class Room(NamedTuple):
    """Addresses that each zone's subnet of nodes must have: spot may be dry in all other zones."""

    nodes: int
    beside: int
    """Of model tiers' balancers, endpoints and the control function."""

    @property
    def addresses(self) -> int:
        return self.nodes + self.beside

    def lacking_in(self, block: IPv4Network) -> int:
        """How many `block` has too few; at most 0 where there are enough."""
        return self.addresses - (block.num_addresses - AWS_KEEPS)

    def __str__(self) -> str:
        return f"{self.nodes} nodes, beside which balancers, endpoints and control take {self.beside}"


class ExistingNetwork(Group):
    vpc_id: VpcId = Field(
        description="The VPC.",
        json_schema_extra=when(
            "Set it to live in a network that others provide, with its routes and its ways out."
        ),
    )
    public_subnet_ids: SubnetIds = Field(
        description="Subnets of the public load balancer, one a zone, with a route to an internet gateway.",
        json_schema_extra=when("Always, beside vpcId."),
    )
    private_subnet_ids: SubnetIds = Field(
        description="Subnets of the nodes, one a zone in two or more, with no route to an internet gateway.",
        json_schema_extra=when("Always, beside vpcId."),
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        listed = (*self.public_subnet_ids, *self.private_subnet_ids)
        if repeated := sorted({one for one in listed if listed.count(one) > 1}):
            raise ValueError(
                f"publicSubnetIds and privateSubnetIds name {', '.join(repeated)} more than once: a subnet "
                "is public or private, and is named once"
            )
        return self


class Network(Group):
    cidr: IPv4Network = Field(
        default=IPv4Network("10.0.0.0/16"),
        description="Addresses of the VPC, from /16 to /19.",
        json_schema_extra=when(
            "Where the VPC is to be peered with others: their addresses must differ. It cannot change later."
        ),
    )
    zones: int = Field(
        default=3,
        ge=2,
        le=6,
        description="Availability zones, the region's first ones.",
        json_schema_extra=when("Lower it only in regions that have two; spot needs as many as there are."),
    )
    nat: Literal["single", "per-zone", "none"] = Field(
        default="single",
        description="One NAT gateway for all zones, one each, or none.",
        json_schema_extra=when(
            "per-zone in production: a zone's failure stays its own. none with endpoints, where nodes may "
            "reach nothing but AWS."
        ),
    )
    endpoints: bool = Field(
        default=False,
        description="Interface endpoints through which nodes reach AWS inside the VPC.",
        json_schema_extra=when("Where traffic to AWS must not leave the VPC; with nat none it must be true."),
    )
    existing: ExistingNetwork | None = Field(
        default=None,
        description="A network that exists already, instead of one of the stack's own.",
        json_schema_extra=when(
            "Where another team provides networks; cidr, zones, nat and endpoints are theirs then."
        ),
    )

    @property
    def public_blocks(self) -> tuple[IPv4Network, ...]:
        """One block a zone for the load balancer, cut from the VPC's first sixteenth."""
        first = next(self.cidr.subnets(prefixlen_diff=4))
        return tuple(first.subnets(prefixlen_diff=4))[: self.zones]

    @property
    def private_blocks(self) -> tuple[IPv4Network, ...]:
        """A sixteenth of the VPC for each zone's nodes."""
        return tuple(self.cidr.subnets(prefixlen_diff=4))[1 : self.zones + 1]

    @property
    def leads_out(self) -> bool:
        """Whether nodes reach more than AWS. Of an existing network only its owner knows."""
        return self.existing is not None or self.nat != "none"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := list(_problems(self)):
            raise ValueError("; ".join(problems))
        return self


def _problems(network: Network) -> Iterator[str]:
    if network.existing is not None:
        theirs = network.model_fields_set - {"existing"}
        if theirs:
            named = ", ".join(name for name in Network.model_fields if name in theirs)
            yield f"existing is set, and so is {named}, which is that network's own: remove one of the two"
        return
    if not 16 <= network.cidr.prefixlen <= 19:
        yield (
            f"cidr {network.cidr} must be from /16, the largest VPC, to /19, of which a load balancer's "
            "subnet gets the /27 that it needs: write for example 10.0.0.0/16"
        )
    if network.nat == "none" and not network.endpoints:
        yield (
            "nat is none and endpoints is false, so no node could reach AWS: set endpoints to true, or nat "
            "to single"
        )
