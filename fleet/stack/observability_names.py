"""What there is to look at: names of metrics, and of what they are about. Nothing here imports pulumi.

Metrics of AWS: "CloudWatch metrics for your Application Load Balancer" (ALB guide); "Amazon CloudWatch
metrics for Amazon EC2 Auto Scaling" (Auto Scaling guide: groups send them only where collection is enabled,
free of charge, and none of them tells spot from on demand); "Available CloudWatch metrics for Amazon SQS".
Ours: what nodes publish, see docs/telemetry.md; a test compares the names with the server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from fleet.stack.scaling import METRIC, NAMESPACE, STACK_DIMENSION, TIER_DIMENSION

NODE_MINUTES = "NodeMinutes"
DRAINING = "NodesDraining"
NOTICES = "Notices"
FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105  no secret
OK, FAILED, REFUSED = "RequestsOk", "RequestsFailed", "RequestsRefused"
RETRIED, RESUMED = "RequestsRetried", "RequestsResumed"
OPTION_DIMENSION = "PurchaseOption"
OPTIONS = ("on-demand", "spot")
IN_FLIGHT = METRIC
ABOVE_BASE = "OnDemandAboveBase"
"""Nodes on demand in spot's place: counted in the control handler's log, whenever it decides."""
GIVEN_UP = "NodesGivenUp"
"""Before they were ever ready: counted in the control handler's log, while it is news."""

SERIES_OF_GATEWAYS = 10
SERIES_OF_MODELS = 4
"""Custom metrics that CloudWatch charges for a tier: its names above, the minutes once for each option."""

GROUP_METRICS = (
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupMaxSize",
    "GroupMinSize",
    "GroupPendingInstances",
    "GroupStandbyInstances",
    "GroupTerminatingInstances",
    "GroupTotalInstances",
)

T = TypeVar("T")
"""A name: text once it is known, an output of Pulumi before."""


@dataclass(frozen=True)
class Metric(Generic[T]):
    namespace: str
    name: str
    dimensions: Mapping[str, T]
    statistic: str


@dataclass(frozen=True)
class TierNames(Generic[T]):
    tier: str
    role: Literal["gateway", "model"]
    group: T
    load_balancer: T
    """As the metrics of load balancers name it: app/NAME/ID."""
    target_group: T

    def of_balancer(self, name: str, statistic: str) -> Metric[T]:
        return Metric(
            "AWS/ApplicationELB",
            name,
            {"LoadBalancer": self.load_balancer, "TargetGroup": self.target_group},
            statistic,
        )

    def of_group(self, name: str) -> Metric[T]:
        return Metric("AWS/AutoScaling", name, {"AutoScalingGroupName": self.group}, "Average")


@dataclass(frozen=True)
class StackNames(Generic[T]):
    stack: T
    tiers: tuple[TierNames[T], ...]
    queue: T
    dead_letters: T
    rules: Mapping[str, T] = field(default_factory=dict)
    """Part -> name of the EventBridge rule that brings notices."""
    control: T = field(kw_only=True)
    """The function that handles them."""

    @property
    def gateway(self) -> TierNames[T]:
        return next(tier for tier in self.tiers if tier.role == "gateway")


def of_nodes(stack: T, tier: T, name: str, statistic: str, more: Mapping[str, T] | None = None) -> Metric[T]:
    """A metric that nodes publish."""
    return Metric(NAMESPACE, name, {STACK_DIMENSION: stack, TIER_DIMENSION: tier, **(more or {})}, statistic)


def of_queue(queue: T, name: str) -> Metric[T]:
    return Metric("AWS/SQS", name, {"QueueName": queue}, "Maximum")
