"""What the stack tells: names and addresses that people, the control handler and the rehearsal go by."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from fleet.stack.control_identity import ControlIdentity
from fleet.stack.edge import Edge
from fleet.stack.firewall import SERVING_PORT
from fleet.stack.notices import Notices
from fleet.stack.tier import Tier


def export(
    domain: str | None,
    public: Edge,
    notices: Notices,
    tiers: Mapping[str, tuple[Tier, Edge]],
    control: ControlIdentity,
    control_security_group: pulumi.Input[str],
) -> None:
    pulumi.export("endpoint", f"https://{domain}" if domain else _plain_endpoint(public))
    pulumi.export("loadBalancerArn", public.load_balancer.arn)
    pulumi.export("loadBalancerDns", public.load_balancer.dns_name)
    pulumi.export("noticeQueueUrl", notices.queue.url)
    pulumi.export("noticeQueueArn", notices.queue.arn)
    pulumi.export("tiers", {name: _tier(tier, edge) for name, (tier, edge) in tiers.items()})
    pulumi.export("control", {"roleArn": control.role.arn, "securityGroupId": control_security_group})


def _plain_endpoint(public: Edge) -> pulumi.Output[str]:
    return pulumi.Output.concat("http://", public.load_balancer.dns_name)


def _tier(tier: Tier, edge: Edge) -> dict[str, pulumi.Input[str] | pulumi.Input[int]]:
    return {
        "autoScalingGroup": tier.group.name,
        "targetGroupArn": edge.target_group.arn,
        "launchTemplateId": tier.template.id,
        "launchTemplateVersion": tier.template.latest_version,
        "port": SERVING_PORT,
        "imageId": tier.image_id,
    }
