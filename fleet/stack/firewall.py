"""Who may talk to whom: one security group a part, and a rule at both ends of every allowed flow."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import resource_name
from fleet.stack.network import ANYWHERE

SERVING_PORT = 8080
ADMIN_PORT = 9090
HTTP = 80
HTTPS = 443

PUBLIC_BALANCER = "public-balancer"
MODEL_BALANCER = "model-balancer"
CONTROL = "control"
ENDPOINTS = "endpoints"


class Flow(NamedTuple):
    source: str
    target: str
    port: int


def flows(gateway: str, models: Sequence[str]) -> list[Flow]:
    """All that is allowed inside the VPC; model tiers need not know of one another."""
    found = [
        Flow(PUBLIC_BALANCER, gateway, SERVING_PORT),
        Flow(gateway, MODEL_BALANCER, HTTP),
        Flow(CONTROL, gateway, ADMIN_PORT),
    ]
    for model in models:
        found += [
            Flow(gateway, model, SERVING_PORT),
            Flow(MODEL_BALANCER, model, SERVING_PORT),
            Flow(CONTROL, model, ADMIN_PORT),
        ]
    return found


class Firewall(pulumi.ComponentResource):
    def __init__(
        self,
        stack: str,
        gateway: str,
        models: Sequence[str],
        vpc_id: pulumi.Input[str],
        public_ports: Sequence[int],
        clients: Sequence[IPv4Network],
        *,
        endpoints: bool,
        leads_out: bool,
    ) -> None:
        """`endpoints` says whether AWS has doors inside the VPC, `leads_out` whether nodes reach more."""
        name = resource_name(stack, "firewall")
        super().__init__("goldenfleet:stack:Firewall", name)
        self._stack = stack
        self._child = pulumi.ResourceOptions(parent=self)
        # These call AWS's interfaces, over HTTPS: through the NAT gateway, or through endpoints.
        callers = (gateway, *models, CONTROL)
        inside = (ENDPOINTS,) if endpoints else ()
        parts = (PUBLIC_BALANCER, MODEL_BALANCER, *callers, *inside)
        self._groups = {part: self._group(part, vpc_id) for part in parts}
        for flow in flows(gateway, models):
            self._allow(flow)
        for part in callers:
            for door in inside:
                self._allow(Flow(part, door, HTTPS))
            if leads_out:
                self._allow_out(part, block=ANYWHERE)
            else:
                self._allow_out(part, prefixes=_s3())
        for port in public_ports:
            for block in clients:
                self._allow_clients(port, block)
        self.register_outputs({})

    def reach(self, part: str, foreign_group: str, port: int, what: str) -> None:
        """Let `part` talk to what others run behind a security group of theirs."""
        self._join(resource_name(self._stack, f"{part}-{what}"), self.group(part), foreign_group, port)

    def group(self, part: str) -> pulumi.Output[str]:
        return self._groups[part].id

    def _group(self, part: str, vpc_id: pulumi.Input[str]) -> aws.ec2.SecurityGroup:
        name = resource_name(self._stack, part)
        return aws.ec2.SecurityGroup(
            name, vpc_id=vpc_id, description=f"Goldenfleet {self._stack}: {part}", opts=self._child
        )

    def _allow(self, flow: Flow) -> None:
        name = resource_name(self._stack, f"{flow.source}-{flow.target}-{flow.port}")
        self._join(name, self.group(flow.source), self.group(flow.target), flow.port)

    def _join(self, name: str, source: pulumi.Input[str], target: pulumi.Input[str], port: int) -> None:
        """By a rule at both ends."""
        aws.vpc.SecurityGroupEgressRule(
            name,
            security_group_id=source,
            referenced_security_group_id=target,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            opts=self._child,
        )
        aws.vpc.SecurityGroupIngressRule(
            name,
            security_group_id=target,
            referenced_security_group_id=source,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            opts=self._child,
        )

    def _allow_out(self, part: str, *, block: str | None = None, prefixes: str | None = None) -> None:
        aws.vpc.SecurityGroupEgressRule(
            resource_name(self._stack, f"{part}-https"),
            security_group_id=self.group(part),
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            cidr_ipv4=block,
            prefix_list_id=prefixes,
            opts=self._child,
        )

    def _allow_clients(self, port: int, block: IPv4Network) -> None:
        aws.vpc.SecurityGroupIngressRule(
            resource_name(self._stack, f"clients-{port}-{block}"),
            security_group_id=self.group(PUBLIC_BALANCER),
            cidr_ipv4=str(block),
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            opts=self._child,
        )


def _s3() -> str:
    """S3 has a gateway endpoint, which has no security group: its addresses are a list that AWS keeps."""
    return aws.ec2.get_managed_prefix_list(name=f"com.amazonaws.{aws.get_region().region}.s3").id
