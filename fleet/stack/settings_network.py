"""Settings of the network that a stack lives in."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Literal, Self

from pydantic import Field, model_validator

from fleet.stack.settings_base import Group


class Network(Group):
    cidr: IPv4Network = Field(
        default=IPv4Network("10.0.0.0/16"), description="Addresses of the VPC, from /16 to /19."
    )
    zones: int = Field(default=3, ge=2, le=6, description="Availability zones, the region's first ones.")
    nat: Literal["single", "per-zone"] = Field(
        default="single",
        description="One NAT gateway for all zones, or one each: a zone's failure stays its own.",
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

    @model_validator(mode="after")
    def _size(self) -> Self:
        if not 16 <= self.cidr.prefixlen <= 19:
            raise ValueError(
                f"cidr {self.cidr} must be from /16, the largest VPC, to /19, of which a load balancer's "
                "subnet gets the /27 that it needs: write for example 10.0.0.0/16"
            )
        return self
