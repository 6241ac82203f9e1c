"""A tier's load balancer: the public one before the gateways, an internal one before the model nodes.

Gateways send to model nodes directly, for they choose among nodes by what is in flight and never one
already tried, which no ALB does. The model tier has an internal load balancer all the same: a target group
that hangs on none checks nobody's health, and its word on who is healthy is what gateways find nodes by, what
the Auto Scaling group replaces by, and what a drain changes first. It is also a path to the nodes that needs
no discovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from fleet.stack.firewall import HTTP, HTTPS, SERVING_PORT
from fleet.stack.naming import resource_name
from fleet.stack.tags import of_tier

# TLS 1.3 and 1.2 with forward secrecy, post-quantum where the client can: AWS's recommendation ("Security
# policies for your Application Load Balancer"), and what its console sets; its API's default is of 2016.
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"

# Two looks 10 s apart: as fast as AWS lets a balancer notice (interval 5-300, timeout 2-120, counts 2-10)
# without counting one slow answer as a death.
HEALTH_CHECK = aws.lb.TargetGroupHealthCheckArgs(
    path="/ready", interval=10, timeout=5, healthy_threshold=2, unhealthy_threshold=2, matcher="200"
)


@dataclass(frozen=True)
class EdgePlan:
    stack: str
    tier: str
    internal: bool
    certificate_arn: str | None
    idle_timeout_seconds: int
    deregistration_delay_seconds: int
    protected: bool
    log_bucket: pulumi.Input[str] | None = None
    """Where each request is noted down; None is nowhere."""


class Edge(pulumi.ComponentResource):
    def __init__(
        self,
        plan: EdgePlan,
        vpc_id: pulumi.Input[str],
        subnets: Sequence[pulumi.Input[str]],
        security_group: pulumi.Input[str],
    ) -> None:
        self._name = resource_name(plan.stack, plan.tier)
        super().__init__("goldenfleet:stack:Edge", self._name, None, of_tier(plan.tier))
        self._child = pulumi.ResourceOptions(parent=self)
        self.load_balancer = self._load_balancer(plan, subnets, security_group)
        self.target_group = self._target_group(plan, vpc_id)
        self.listeners = self._listeners(plan.certificate_arn)
        self.register_outputs({"dnsName": self.load_balancer.dns_name})

    @property
    def request_count_label(self) -> pulumi.Output[str]:
        """Names this balancer's share of the metric ALBRequestCountPerTarget."""
        return pulumi.Output.concat(self.load_balancer.arn_suffix, "/", self.target_group.arn_suffix)

    def _load_balancer(
        self, plan: EdgePlan, subnets: Sequence[pulumi.Input[str]], security_group: pulumi.Input[str]
    ) -> aws.lb.LoadBalancer:
        return aws.lb.LoadBalancer(
            self._name,
            load_balancer_type="application",
            internal=plan.internal,
            subnets=list(subnets),
            security_groups=[security_group],
            idle_timeout=plan.idle_timeout_seconds,
            drop_invalid_header_fields=True,
            desync_mitigation_mode="strictest",
            enable_deletion_protection=plan.protected,
            access_logs=_access_logs(plan),
            connection_logs=_connection_logs(plan),
            # Whoever is on call can take the balancer out of a zone that fails; it costs nothing.
            enable_zonal_shift=not plan.internal,
            # By Pulumi too: AWS would refuse only when a destroy has taken half of the stack away.
            opts=pulumi.ResourceOptions(parent=self, protect=plan.protected),
        )

    def _target_group(self, plan: EdgePlan, vpc_id: pulumi.Input[str]) -> aws.lb.TargetGroup:
        return aws.lb.TargetGroup(
            self._name,
            vpc_id=vpc_id,
            target_type="instance",
            protocol="HTTP",
            port=SERVING_PORT,
            deregistration_delay=plan.deregistration_delay_seconds,
            load_balancing_algorithm_type="least_outstanding_requests",
            health_check=HEALTH_CHECK,
            opts=self._child,
        )

    def _listeners(self, certificate_arn: str | None) -> list[aws.lb.Listener]:
        forward = aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=self.target_group.arn)
        if certificate_arn is None:
            return [self._http(forward)]
        redirect = aws.lb.ListenerDefaultActionArgs(
            type="redirect",
            redirect=aws.lb.ListenerDefaultActionRedirectArgs(
                protocol="HTTPS", port=str(HTTPS), status_code="HTTP_301"
            ),
        )
        return [self._https(forward, certificate_arn), self._http(redirect)]

    def _http(self, action: aws.lb.ListenerDefaultActionArgs) -> aws.lb.Listener:
        return aws.lb.Listener(
            f"{self._name}-http",
            load_balancer_arn=self.load_balancer.arn,
            protocol="HTTP",
            port=HTTP,
            default_actions=[action],
            opts=self._child,
        )

    def _https(self, action: aws.lb.ListenerDefaultActionArgs, certificate_arn: str) -> aws.lb.Listener:
        return aws.lb.Listener(
            f"{self._name}-https",
            load_balancer_arn=self.load_balancer.arn,
            protocol="HTTPS",
            port=HTTPS,
            ssl_policy=TLS_POLICY,
            certificate_arn=certificate_arn,
            default_actions=[action],
            opts=self._child,
        )


def _connection_logs(plan: EdgePlan) -> aws.lb.LoadBalancerConnectionLogsArgs | None:
    """Whose handshakes fail, and why, is in no access log; nor is who still has an old TLS."""
    if plan.log_bucket is None or plan.certificate_arn is None:
        return None
    return aws.lb.LoadBalancerConnectionLogsArgs(
        bucket=plan.log_bucket, prefix=f"{plan.tier}-connections", enabled=True
    )


def _access_logs(plan: EdgePlan) -> aws.lb.LoadBalancerAccessLogsArgs | None:
    if plan.log_bucket is None:
        return None
    return aws.lb.LoadBalancerAccessLogsArgs(bucket=plan.log_bucket, prefix=plan.tier, enabled=True)
