"""Doors to AWS's interfaces inside the VPC, so that calls to them never leave it."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import resource_name

# What nodes and the control handler call: their parameters, secrets, logs and metrics, how they find one
# another, Session Manager (all of ssm, ssmmessages and ec2messages), and engines' containers.
SERVICES = (
    "autoscaling",
    "ec2",
    "ec2messages",
    "ecr.api",
    "ecr.dkr",
    "elasticloadbalancing",
    "logs",
    "monitoring",
    "secretsmanager",
    "sqs",
    "ssm",
    "ssmmessages",
    "sts",
)


class Endpoints(pulumi.ComponentResource):
    """Depend on it where nodes boot: without a way to AWS they find no configuration."""

    def __init__(
        self,
        stack: str,
        vpc_id: pulumi.Input[str],
        subnets: Sequence[pulumi.Input[str]],
        security_group: pulumi.Input[str],
    ) -> None:
        name = resource_name(stack, "endpoints")
        super().__init__("goldenfleet:stack:Endpoints", name)
        region = aws.get_region().region
        for service in SERVICES:
            aws.ec2.VpcEndpoint(
                f"{name}-{service}",
                vpc_id=vpc_id,
                service_name=f"com.amazonaws.{region}.{service}",
                vpc_endpoint_type="Interface",
                subnet_ids=list(subnets),
                security_group_ids=[security_group],
                private_dns_enabled=True,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})
