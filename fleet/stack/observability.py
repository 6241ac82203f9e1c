"""Log groups, alarms and whom they tell, and the dashboard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.cost.bill import expected_prices
from fleet.cost.errors import CostError
from fleet.cost.stack import tier_materials
from fleet.cost.table import bundled_table
from fleet.stack.edge import Edge
from fleet.stack.encryption import Account
from fleet.stack.identity import allow, policy
from fleet.stack.naming import log_group, resource_name
from fleet.stack.notices import Notices
from fleet.stack.observability_alarms import (
    COMPOSITE,
    RUNBOOK,
    AlarmPlan,
    alarms,
    composite_rule,
    fails_rollout,
)
from fleet.stack.observability_dashboard import Prices, body
from fleet.stack.observability_names import Metric, StackNames, TierNames
from fleet.stack.settings import Settings
from fleet.stack.tags import TIER, of_tier, tagging
from fleet.stack.tier import Tier

Text = pulumi.Input[str]

_PERIOD_SECONDS = 60
_KEY_DELETION_DAYS = 7


class TierLogs(pulumi.ComponentResource):
    def __init__(
        self, stack: str, tier: str, retention_days: int, key_arn: pulumi.Input[str] | None = None
    ) -> None:
        name = resource_name(stack, f"{tier}-logs")
        super().__init__("goldenfleet:stack:TierLogs", name, None, of_tier(tier))
        self.group = aws.cloudwatch.LogGroup(
            name,
            name=log_group(stack, tier),
            retention_in_days=retention_days,
            kms_key_id=key_arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


class Observability(pulumi.ComponentResource):
    """Alarms and the dashboard of all that was made."""

    def __init__(self, settings: Settings, made: Mapping[str, tuple[Tier, Edge]], notices: Notices) -> None:
        super().__init__("goldenfleet:stack:Observability", resource_name(settings.stack, "observability"))
        names = _names(settings, made, notices)
        plans = alarms(settings, names, {tier.name: tier.name for tier in settings.tiers})
        self.alarms = told = Alarms(settings, plans, self)
        self.dashboard = _dashboard(settings, names, told.arns, self)
        self.register_outputs({"dashboardName": self.dashboard.dashboard_name})


class Alarms(pulumi.ComponentResource):
    """Those that clients notice are told by the one alarm over them; each other one tells by itself."""

    def __init__(self, settings: Settings, plans: Sequence[AlarmPlan[Text]], parent: Observability) -> None:
        self._stack = settings.stack
        name = resource_name(settings.stack, "alarms")
        super().__init__("goldenfleet:stack:Alarms", name, None, pulumi.ResourceOptions(parent=parent))
        self._actions = _destination(settings, self)
        self._gateway = settings.gateway.name
        self._made = made = {plan: self._alarm(plan) for plan in plans}
        noticed = {plan.part_of_stack: alarm.name for plan, alarm in made.items() if plan.clients_notice}
        composite = self._composite(noticed)
        self.arns: list[pulumi.Output[str]] = [composite.arn, *(alarm.arn for alarm in made.values())]
        self.register_outputs({})

    def failing_rollouts_of(self, tier: str) -> list[pulumi.Output[str]]:
        """Names of the alarms that send a rollout of `tier` back."""
        made = self._made.items()
        return [alarm.name for plan, alarm in made if fails_rollout(plan, tier, self._gateway)]

    def _alarm(self, plan: AlarmPlan[Text]) -> aws.cloudwatch.MetricAlarm:
        actions = [] if plan.clients_notice else self._actions
        own = [tagging({TIER: plan.tier})] if plan.tier else []
        return aws.cloudwatch.MetricAlarm(
            resource_name(self._stack, plan.part_of_stack),
            alarm_description=plan.description,
            comparison_operator=plan.comparison,
            threshold=plan.threshold,
            evaluation_periods=plan.periods,
            datapoints_to_alarm=plan.of_them,
            treat_missing_data=plan.missing,
            alarm_actions=actions,
            ok_actions=actions,
            **_looked_at(plan),
            opts=pulumi.ResourceOptions(parent=self, transformations=own),
        )

    def _composite(self, noticed: Mapping[str, pulumi.Output[str]]) -> aws.cloudwatch.CompositeAlarm:
        name = resource_name(self._stack, COMPOSITE)
        return aws.cloudwatch.CompositeAlarm(
            name,
            alarm_name=name,
            alarm_description=f"Clients notice. What is behind it, and what to do: {RUNBOOK}#{COMPOSITE}",
            alarm_rule=pulumi.Output.all(**noticed).apply(composite_rule),
            alarm_actions=self._actions,
            ok_actions=self._actions,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _destination(settings: Settings, parent: pulumi.Resource) -> list[Text]:
    """ARNs of the topics that alarms are told to: none, the given one, or one of the stack's own."""
    if settings.alarms.topic_arn is not None:
        return [settings.alarms.topic_arn]
    if settings.alarms.email is None:
        return []
    return [_mailing_topic(settings.stack, settings.alarms.email, parent).arn]


def _mailing_topic(stack: str, email: str, parent: pulumi.Resource) -> aws.sns.Topic:
    name, child = resource_name(stack, "alarms"), pulumi.ResourceOptions(parent=parent)
    account = Account.here()
    # AWS's own key for SNS lets no alarm in, and nobody can change its policy ("Setting up an encrypted SNS
    # topic", CloudWatch guide).
    key = aws.kms.Key(
        name,
        description=f"Alarms of the Goldenfleet stack {stack}",
        policy=_key_policy(account),
        enable_key_rotation=True,
        deletion_window_in_days=_KEY_DELETION_DAYS,
        opts=child,
    )
    topic = aws.sns.Topic(name, kms_master_key_id=key.key_id, opts=child)
    aws.sns.TopicPolicy(name, arn=topic.arn, policy=_topic_policy(topic.arn, account), opts=child)
    aws.sns.TopicSubscription(name, topic=topic.arn, protocol="email", endpoint=email, opts=child)
    return topic


def _key_policy(account: Account) -> str:
    root = {"AWS": f"arn:{account.partition}:iam::{account.id}:root"}
    alarms_may = {"Service": "cloudwatch.amazonaws.com"}
    statements = [
        {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"},
        {
            "Effect": "Allow",
            "Principal": alarms_may,
            "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account.id}},
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _topic_policy(topic_arn: pulumi.Output[str], account: Account) -> pulumi.Output[str]:
    source = account.arn("cloudwatch", "alarm:*")
    statement = {
        **allow(["sns:Publish"], [topic_arn]),
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Condition": {
            "ArnLike": {"aws:SourceArn": source},
            "StringEquals": {"aws:SourceAccount": account.id},
        },
    }
    without_tls = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sns:Publish",
        "Resource": topic_arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return policy([statement, without_tls])


def _looked_at(plan: AlarmPlan[Text]) -> dict[str, Any]:
    if plan.expression is None:
        [metric] = plan.metrics.values()
        return _single(metric)
    queries = [
        aws.cloudwatch.MetricAlarmMetricQueryArgs(
            id=identity,
            metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
                namespace=metric.namespace,
                metric_name=metric.name,
                dimensions=dict(metric.dimensions),
                stat=metric.statistic,
                period=_PERIOD_SECONDS,
            ),
            return_data=False,
        )
        for identity, metric in plan.metrics.items()
    ]
    result = aws.cloudwatch.MetricAlarmMetricQueryArgs(
        id="result", expression=plan.expression, label=plan.part, return_data=True
    )
    return {"metric_queries": [*queries, result]}


def _single(metric: Metric[Text]) -> dict[str, Any]:
    percentile = metric.statistic.startswith("p")
    return {
        "namespace": metric.namespace,
        "metric_name": metric.name,
        "dimensions": dict(metric.dimensions),
        "extended_statistic" if percentile else "statistic": metric.statistic,
        "period": _PERIOD_SECONDS,
    }


def _names(settings: Settings, made: Mapping[str, tuple[Tier, Edge]], notices: Notices) -> StackNames[Text]:
    tiers = tuple(
        TierNames[Text](
            tier.name,
            tier.role,
            made[tier.name][0].group.name,
            made[tier.name][1].load_balancer.arn_suffix,
            made[tier.name][1].target_group.arn_suffix,
        )
        for tier in settings.tiers
    )
    rules = {part: rule.name for part, rule in notices.rules.items()}
    queue, dead_letters = notices.queue.name, notices.dead_letters.name
    control = resource_name(settings.stack, "control")
    return StackNames[Text](settings.stack, tiers, queue, dead_letters, rules, control=control)


def _dashboard(
    settings: Settings,
    names: StackNames[Text],
    arns: Sequence[pulumi.Output[str]],
    parent: pulumi.Resource,
) -> aws.cloudwatch.Dashboard:
    region = aws.get_region().region
    prices = _prices(settings, region)
    outputs = pulumi.Output.all(_resolved(names), pulumi.Output.all(*arns))
    name = resource_name(settings.stack, "dashboard")
    return aws.cloudwatch.Dashboard(
        name,
        dashboard_name=name,
        dashboard_body=outputs.apply(lambda known: json.dumps(body(known[0], known[1], region, prices))),
        opts=pulumi.ResourceOptions(parent=parent),
    )


def _resolved(names: StackNames[Text]) -> pulumi.Output[StackNames[str]]:
    """The same names, once AWS has given them."""
    of_tiers = [(tier.group, tier.load_balancer, tier.target_group) for tier in names.tiers]
    given = pulumi.Output.all(
        tiers=[pulumi.Output.all(*of_tier_) for of_tier_ in of_tiers],
        queue=names.queue,
        dead_letters=names.dead_letters,
        rules=dict(names.rules),
        stack=names.stack,
        control=names.control,
    )
    kinds = [(tier.tier, tier.role) for tier in names.tiers]
    return given.apply(
        lambda known: StackNames(
            known["stack"],
            tuple(
                TierNames(name, role, *found)
                for (name, role), found in zip(kinds, known["tiers"], strict=True)
            ),
            known["queue"],
            known["dead_letters"],
            known["rules"],
            control=known["control"],
        )
    )


def _prices(settings: Settings, region: str) -> dict[str, Prices]:
    """Of the tiers whose types have prices; a dashboard without cost is no reason to make no fleet."""
    found: dict[str, Prices] = {}
    for tier in settings.tiers:
        try:
            found[tier.name] = Prices(*expected_prices(tier_materials(tier), bundled_table(region)))
        except CostError:
            continue
    return found
