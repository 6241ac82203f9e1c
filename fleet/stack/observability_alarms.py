"""Which alarms a stack has, when each goes off, and what to do then: docs/oncall.md. Pure.

An alarm on what a client notices tells nobody by itself: the composite alarm over all of them does, once. All
others, which give time before a client notices, tell on their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Literal

from fleet.stack.observability_names import (
    ABOVE_BASE,
    FAILED,
    FIRST_TOKEN,
    GIVEN_UP,
    Metric,
    StackNames,
    T,
    TierNames,
    of_nodes,
    of_queue,
)
from fleet.stack.settings import Settings

RUNBOOK = "docs/oncall.md"
COMPOSITE = "clients-notice"
NEVER_READY, UNHEALTHY = "never-ready", "unhealthy"

Comparison = Literal["GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"]


@dataclass(frozen=True, eq=False)
class AlarmPlan(Generic[T]):
    part: str
    tier: str | None
    """None for the stack's own."""
    meaning: str
    runbook: str
    """Anchor in RUNBOOK."""
    metrics: Mapping[str, Metric[T]]
    threshold: float
    periods: int
    """Minutes that are looked at, of which `of_them` must be bad."""
    of_them: int
    expression: str | None = None
    """Of the metrics, by their keys; None where the only metric is compared."""
    comparison: Comparison = "GreaterThanThreshold"
    missing: Literal["breaching", "notBreaching", "ignore"] = "notBreaching"
    clients_notice: bool = False

    @property
    def part_of_stack(self) -> str:
        return self.part if self.tier is None else f"{self.tier}-{self.part}"

    @property
    def description(self) -> str:
        return f"{self.meaning}. What to do: {RUNBOOK}#{self.runbook}"


def alarms(settings: Settings, names: StackNames[T], tier_names: Mapping[str, T]) -> tuple[AlarmPlan[T], ...]:
    """`tier_names` gives each tier's name as what `T` is."""
    of_tiers = [plan for tier in names.tiers for plan in _of_tier(tier, settings)]
    of_tiers += [_of_given_up(names.stack, tier_names[tier.name], tier.name) for tier in settings.tiers]
    of_tiers += [
        _of_fallback(names.stack, tier_names[tier.name], tier.name)
        for tier in settings.tiers
        if tier.falls_back
    ]
    gateway = names.gateway
    of_clients = _of_clients(names.stack, gateway, tier_names[gateway.tier], settings)
    return (*of_clients, *of_tiers, *_of_notices(names), _of_control(names.control))


def composite_rule(names: Mapping[str, str]) -> str:
    """The rule of the composite alarm; `names` gives the name of each alarm that it is over."""
    return " OR ".join(f'ALARM("{name}")' for name in names.values())


def fails_rollout(plan: AlarmPlan[T], tier: str, gateway: str) -> bool:
    """Whether a rollout of `tier` goes back when the alarm rings: clients notice it, or it is the tier's."""
    if plan.clients_notice:
        return plan.tier in (tier, gateway)
    return plan.tier == tier and plan.part in (NEVER_READY, UNHEALTHY)


def series(plans: tuple[AlarmPlan[T], ...]) -> int:
    """Metrics that alarms look at: CloudWatch charges by them."""
    return sum(len(plan.metrics) for plan in plans)


def _of_clients(stack: T, gateway: TierNames[T], tier: T, settings: Settings) -> Iterator[AlarmPlan[T]]:
    """What clients see themselves."""
    limits = settings.alarms
    yield AlarmPlan(
        part="lost",
        tier=gateway.tier,
        meaning="Requests failed that the fleet should have served",
        runbook="lost",
        metrics={"lost": of_nodes(stack, tier, FAILED, "Sum")},
        threshold=0,
        periods=5,
        of_them=2,
        clients_notice=True,
    )
    yield AlarmPlan(
        part="errors",
        tier=gateway.tier,
        meaning=f"More than {limits.errors_percent:g}% of the answers are 5xx",
        runbook="errors",
        metrics={
            "errors": gateway.of_balancer("HTTPCode_Target_5XX_Count", "Sum"),
            "requests": gateway.of_balancer("RequestCount", "Sum"),
        },
        expression="100 * errors / requests",
        threshold=limits.errors_percent,
        periods=5,
        of_them=3,
        clients_notice=True,
    )
    # The balancer's own errors have no target group: nothing was there to answer.
    refused = Metric(
        "AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", {"LoadBalancer": gateway.load_balancer}, "Sum"
    )
    yield AlarmPlan(
        part="balancer-errors",
        tier=gateway.tier,
        meaning="The public load balancer answers 5xx by itself: gateways are gone, or cut connections",
        runbook="balancer-errors",
        metrics={"errors": refused},
        threshold=0,
        periods=5,
        of_them=2,
        clients_notice=True,
    )
    yield AlarmPlan(
        part="first-token",
        tier=gateway.tier,
        meaning=f"5 of 100 streams wait longer than {limits.first_token_seconds:g} s for their first token",
        runbook="first-token",
        metrics={"first": of_nodes(stack, tier, FIRST_TOKEN, "p95")},
        threshold=limits.first_token_seconds,
        periods=5,
        of_them=4,
        clients_notice=True,
    )


def _of_tier(tier: TierNames[T], settings: Settings) -> Iterator[AlarmPlan[T]]:
    yield AlarmPlan(
        part="empty",
        tier=tier.tier,
        meaning=f"No healthy {tier.tier} node",
        runbook="empty",
        metrics={"healthy": tier.of_balancer("HealthyHostCount", "Minimum")},
        threshold=1,
        periods=2,
        of_them=2,
        comparison="LessThanThreshold",
        # The metric is not reported while a target group is empty, which is as bad.
        missing="breaching",
        clients_notice=True,
    )
    yield AlarmPlan(
        part=UNHEALTHY,
        tier=tier.tier,
        meaning=f"{tier.tier} nodes stay unhealthy and are not replaced",
        runbook="unhealthy",
        metrics={"unhealthy": tier.of_balancer("UnHealthyHostCount", "Minimum")},
        threshold=0,
        periods=_boot_minutes(settings, tier.tier) + 5,
        of_them=_boot_minutes(settings, tier.tier) + 5,
    )
    yield AlarmPlan(
        part="short",
        tier=tier.tier,
        meaning=f"{tier.tier} has fewer nodes than it wants: no capacity, or nodes that do not come up",
        runbook="short",
        metrics={
            "desired": tier.of_group("GroupDesiredCapacity"),
            "serving": tier.of_group("GroupInServiceInstances"),
        },
        expression="desired - serving",
        threshold=0,
        periods=_boot_minutes(settings, tier.tier) + 10,
        of_them=_boot_minutes(settings, tier.tier) + 10,
    )
    yield AlarmPlan(
        part="full",
        tier=tier.tier,
        meaning=f"{tier.tier} wants its max for half an hour: it cannot grow with the load",
        runbook="full",
        metrics={"desired": tier.of_group("GroupDesiredCapacity"), "most": tier.of_group("GroupMaxSize")},
        expression="desired - most",
        threshold=0,
        periods=30,
        of_them=30,
        comparison="GreaterThanOrEqualToThreshold",
    )


def _of_given_up(stack: T, tier: T, name: str) -> AlarmPlan[T]:
    """AWS tries a rollout whose nodes never get ready for an hour; with this alarm, for a grace period."""
    return AlarmPlan(
        part=NEVER_READY,
        tier=name,
        meaning=f"{name} nodes were given up before they were ever ready",
        runbook=NEVER_READY,
        metrics={"nodes": of_nodes(stack, tier, GIVEN_UP, "Maximum")},
        threshold=0,
        periods=1,
        of_them=1,
    )


def _of_fallback(stack: T, tier: T, name: str) -> AlarmPlan[T]:
    return AlarmPlan(
        part="on-fallback",
        tier=name,
        meaning=f"{name} runs nodes on demand in spot's place: nothing is lost, and it costs more",
        runbook="on-fallback",
        metrics={"above": of_nodes(stack, tier, ABOVE_BASE, "Maximum")},
        threshold=0,
        periods=1,
        of_them=1,
        # Between two decisions nothing is said, and nothing changes.
        missing="ignore",
    )


def _of_notices(names: StackNames[T]) -> Iterator[AlarmPlan[T]]:
    yield AlarmPlan(
        part="notices-late",
        tier=None,
        meaning="Notices wait longer than half of what a spot interruption gives",
        runbook="notices-late",
        metrics={"age": of_queue(names.queue, "ApproximateAgeOfOldestMessage")},
        threshold=60,
        periods=1,
        of_them=1,
    )
    yield AlarmPlan(
        part="notices-dead",
        tier=None,
        meaning="A notice could not be handled",
        runbook="notices-dead",
        metrics={"dead": of_queue(names.dead_letters, "ApproximateNumberOfMessagesVisible")},
        threshold=0,
        periods=1,
        of_them=1,
    )
    yield AlarmPlan(
        part="notices-undelivered",
        tier=None,
        meaning="EventBridge could not put notices into the queue",
        runbook="notices-undelivered",
        metrics={
            part: Metric("AWS/Events", "FailedInvocations", {"RuleName": rule}, "Sum")
            for part, rule in names.rules.items()
        },
        expression="SUM(METRICS())",
        threshold=0,
        periods=1,
        of_them=1,
    )


def _of_control(control: T) -> AlarmPlan[T]:
    """Metrics: "Types of metrics for Lambda functions" (Lambda guide)."""
    return AlarmPlan(
        part="control-failing",
        tier=None,
        meaning="The control handler fails, or Lambda does not let it run",
        runbook="control-failing",
        metrics={
            name.lower(): Metric("AWS/Lambda", name, {"FunctionName": control}, "Sum")
            for name in ("Errors", "Throttles")
        },
        expression="SUM(METRICS())",
        threshold=0,
        periods=5,
        of_them=2,
    )


def _boot_minutes(settings: Settings, tier: str) -> int:
    """While nodes come up, being fewer is no news."""
    return -(-settings.tier(tier).boot.grace_seconds // 60)
