"""When the control handler looks whether tiers must fall back, and metrics of what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import resource_name
from fleet.stack.observability_names import ABOVE_BASE, GIVEN_UP
from fleet.stack.scaling import NAMESPACE, STACK_DIMENSION, TIER_DIMENSION

TICK = {"tick": "fallback"}
"""What the handler is sent. Its answer to it is the same however often, and in whatever order, it comes."""

SCHEDULE = "rate(1 minute)"
"""The least that EventBridge has (user guide, "Schedule expressions")."""


def failed_launches(stack: str, tiers: Sequence[str]) -> Mapping[str, object]:
    """Event pattern of a launch that failed in one of the stack's groups."""
    groups = [{"prefix": f"{resource_name(stack, tier)}-"} for tier in tiers]
    return {
        "source": ["aws.autoscaling"],
        "detail-type": ["EC2 Instance Launch Unsuccessful"],
        "detail": {"AutoScalingGroupName": groups},
    }


class FallbackTicks(pulumi.ComponentResource):
    def __init__(self, stack: str, tiers: Sequence[str], function: aws.lambda_.Function) -> None:
        """`function` is the control handler."""
        self._name = resource_name(stack, "control-fallback")
        super().__init__("goldenfleet:stack:FallbackTicks", self._name)
        self._child = pulumi.ResourceOptions(parent=self)
        pattern = json.dumps(failed_launches(stack, tiers))
        self._calls(
            "minute",
            function,
            aws.cloudwatch.EventRule(f"{self._name}-minute", schedule_expression=SCHEDULE, opts=self._child),
        )
        self._calls(
            "failed",
            function,
            aws.cloudwatch.EventRule(f"{self._name}-failed", event_pattern=pattern, opts=self._child),
        )
        self.register_outputs({})

    def _calls(self, part: str, function: aws.lambda_.Function, rule: aws.cloudwatch.EventRule) -> None:
        name = f"{self._name}-{part}"
        permission = aws.lambda_.Permission(
            name,
            action="lambda:InvokeFunction",
            function=function.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=self._child,
        )
        aws.cloudwatch.EventTarget(
            name,
            rule=rule.name,
            arn=function.arn,
            input=json.dumps(TICK),
            # A tick that comes late says nothing that the next one does not.
            retry_policy=aws.cloudwatch.EventTargetRetryPolicyArgs(
                maximum_event_age_in_seconds=60, maximum_retry_attempts=1
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission]),
        )


class ControlMetrics(pulumi.ComponentResource):
    """Counted in the log of the handler, for alarms: of each decision, how many nodes it leaves on demand in
    spot's place; and nodes that were given up before they were ever ready.
    """

    def __init__(self, stack: str, logs: aws.cloudwatch.LogGroup) -> None:
        self._stack = stack
        self._logs = logs
        super().__init__("goldenfleet:stack:ControlMetrics", resource_name(stack, "control-metrics"))
        self._metric("control-fallback-metric", "fallback.decided", ABOVE_BASE, "$.above")
        self._metric("control-given-up-metric", "nodes.given_up", GIVEN_UP, "$.count")
        self.register_outputs({})

    def _metric(self, part: str, event: str, name: str, value: str) -> None:
        aws.cloudwatch.LogMetricFilter(
            resource_name(self._stack, part),
            log_group_name=self._logs.name,
            pattern=f'{{ $.event = "{event}" }}',
            metric_transformation=aws.cloudwatch.LogMetricFilterMetricTransformationArgs(
                namespace=NAMESPACE,
                name=name,
                value=value,
                dimensions={STACK_DIMENSION: "$.stack", TIER_DIMENSION: "$.tier"},
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
