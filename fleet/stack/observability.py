"""Log groups, and the few alarms that mean that clients will notice or that notices get lost."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from fleet.stack.edge import Edge
from fleet.stack.naming import log_group, resource_name
from fleet.stack.notices import Notices
from fleet.stack.tags import of_tier


class TierLogs(pulumi.ComponentResource):
    def __init__(self, stack: str, tier: str, retention_days: int) -> None:
        name = resource_name(stack, f"{tier}-logs")
        super().__init__("goldenfleet:stack:TierLogs", name, None, of_tier(tier))
        self.group = aws.cloudwatch.LogGroup(
            name,
            name=log_group(stack, tier),
            retention_in_days=retention_days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


class TierAlarms(pulumi.ComponentResource):
    """A tier without a healthy node serves nobody."""

    def __init__(self, stack: str, tier: str, edge: Edge) -> None:
        name = resource_name(stack, f"{tier}-empty")
        super().__init__("goldenfleet:stack:TierAlarms", name, None, of_tier(tier))
        aws.cloudwatch.MetricAlarm(
            name,
            alarm_description=f"No healthy {tier} node",
            namespace="AWS/ApplicationELB",
            metric_name="HealthyHostCount",
            dimensions={
                "LoadBalancer": edge.load_balancer.arn_suffix,
                "TargetGroup": edge.target_group.arn_suffix,
            },
            statistic="Minimum",
            period=60,
            evaluation_periods=2,
            comparison_operator="LessThanThreshold",
            threshold=1,
            # The metric is not reported while a target group is empty, which is as bad.
            treat_missing_data="breaching",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


class NoticeAlarms(pulumi.ComponentResource):
    def __init__(self, stack: str, notices: Notices) -> None:
        self._name = resource_name(stack, "notices")
        super().__init__("goldenfleet:stack:NoticeAlarms", self._name)
        late = "Notices wait longer than a spot interruption gives"
        self._above(60, "late", late, "ApproximateAgeOfOldestMessage", notices.queue)
        dead = "A notice could not be handled"
        self._above(0, "dead", dead, "ApproximateNumberOfMessagesVisible", notices.dead_letters)
        self.register_outputs({})

    def _above(self, threshold: int, part: str, description: str, metric: str, queue: aws.sqs.Queue) -> None:
        aws.cloudwatch.MetricAlarm(
            f"{self._name}-{part}",
            alarm_description=description,
            namespace="AWS/SQS",
            metric_name=metric,
            dimensions={"QueueName": queue.name},
            statistic="Maximum",
            period=60,
            evaluation_periods=1,
            comparison_operator="GreaterThanThreshold",
            threshold=threshold,
            treat_missing_data="notBreaching",
            opts=pulumi.ResourceOptions(parent=self),
        )
