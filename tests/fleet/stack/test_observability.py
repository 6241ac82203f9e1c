"""Alarms and the dashboard: what they look at exists, and each says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from fleet.stack import observability_names
from fleet.stack.naming import resource_name
from fleet.stack.observability_alarms import RUNBOOK, AlarmPlan, alarms, composite_rule, series
from fleet.stack.observability_dashboard import GRID, Prices, body
from fleet.stack.observability_names import GROUP_METRICS, StackNames, TierNames
from fleet.stack.settings import Settings, load_settings
from server import node_metrics
from tests.fleet.stack.conftest import PROJECT, STACKS, Registered, parsed

AWS_METRICS = {
    "AWS/ApplicationELB": {
        "HTTPCode_ELB_5XX_Count",
        "HTTPCode_Target_5XX_Count",
        "HealthyHostCount",
        "RequestCount",
        "TargetResponseTime",
        "UnHealthyHostCount",
    },
    "AWS/AutoScaling": set(GROUP_METRICS),
    "AWS/EC2": {"CPUUtilization"},
    "AWS/Events": {"FailedInvocations", "Invocations"},
    "AWS/Lambda": {"Duration", "Errors", "Invocations", "Throttles"},
    "AWS/SQS": {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
    },
}
"""Of each service, by its page of metrics in AWS's documentation; those that are used here."""

OURS = {
    node_metrics.NODE_MINUTES,
    node_metrics.DRAINING,
    node_metrics.NOTICES,
    node_metrics.FIRST_TOKEN,
    node_metrics.OK,
    node_metrics.FAILED,
    node_metrics.REFUSED,
    node_metrics.RETRIED,
    node_metrics.RESUMED,
    observability_names.IN_FLIGHT,
    observability_names.ABOVE_BASE,
    observability_names.GIVEN_UP,
}
STATISTIC = re.compile(r"Average|Maximum|Minimum|SampleCount|Sum|p\d{1,2}(\.\d{1,2})?")
PERIODS = {1, 5, 10, 20, 30, *range(60, 86401, 60)}
IDENTITY = re.compile(r"[a-z][A-Za-z0-9_]*")
SECTION = re.compile(r"^### (?P<anchor>[a-z-]+)\n(?P<text>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
ALARM = "cloudwatch/metricAlarm:MetricAlarm"


def names_of(settings: Settings) -> StackNames[str]:
    tiers = tuple(
        TierNames(t.name, t.role, f"asg-{t.name}", f"app/{t.name}/1", f"targetgroup/{t.name}/1")
        for t in settings.tiers
    )
    rules = {part: f"rule-{part}" for part in ("interruption", "rebalance", "termination")}
    return StackNames(settings.stack, tiers, "queue", "dead", rules, control="control")


def plans_of(stack: str) -> tuple[AlarmPlan[str], ...]:
    settings = load_settings(PROJECT, stack)
    return alarms(settings, names_of(settings), {tier.name: tier.name for tier in settings.tiers})


def dashboard(stack: str, prices: Mapping[str, Prices]) -> dict[str, Any]:
    return body(names_of(load_settings(PROJECT, stack)), ["arn:1", "arn:2"], "us-east-1", prices)


PRICES = {"gateway": Prices(0.1, 0.04), "model": Prices(0.8, 0.32)}


# --- names


def test_the_stack_and_the_server_name_the_same_metrics() -> None:
    """What dashboards and alarms look at is what nodes publish."""
    names = ("NODE_MINUTES", "DRAINING", "NOTICES", "FIRST_TOKEN", "OK", "FAILED", "REFUSED", "RETRIED")
    for name in (*names, "RESUMED", "OPTION_DIMENSION"):
        assert getattr(observability_names, name) == getattr(node_metrics, name)


def test_groups_send_what_is_looked_at(registered: Registered) -> None:
    """Group metrics are collected only where it is asked for."""
    for group in registered.of("autoscaling/group:Group"):
        assert set(group.inputs["enabledMetrics"]) == set(GROUP_METRICS)


# --- alarms


@pytest.mark.parametrize("stack", STACKS)
def test_alarms_look_at_metrics_that_exist(stack: str) -> None:
    """A misspelt metric never has data, and its alarm is green for ever."""
    for plan in plans_of(stack):
        for metric in plan.metrics.values():
            assert metric.name in AWS_METRICS.get(metric.namespace, OURS), plan.part
            assert STATISTIC.fullmatch(metric.statistic)
            assert metric.dimensions


@pytest.mark.parametrize("stack", STACKS)
def test_alarms_have_distinct_names_and_possible_periods(stack: str) -> None:
    """CloudWatch looks back a day at most, and asks for no more bad minutes than it looks at."""
    plans = plans_of(stack)
    assert len({plan.part_of_stack for plan in plans}) == len(plans)
    for plan in plans:
        assert 1 <= plan.of_them <= plan.periods <= 24 * 60
        assert plan.expression is not None or len(plan.metrics) == 1
        assert all(IDENTITY.fullmatch(identity) for identity in plan.metrics)


def test_expressions_use_their_metrics() -> None:
    """Each metric of an expression is in it, and nothing else."""
    for plan in plans_of("prod"):
        if plan.expression and "METRICS()" not in plan.expression:
            assert set(re.findall(r"[a-z]\w*", plan.expression)) == set(plan.metrics), plan.part


def test_every_alarm_says_what_to_do() -> None:
    """Its page in the runbook has meaning, commands, and what is good again."""
    text = (PROJECT / RUNBOOK).read_text()
    sections = {match["anchor"]: match["text"] for match in SECTION.finditer(text)}
    anchors = {plan.runbook for stack in STACKS for plan in plans_of(stack)} | {"clients-notice"}
    assert anchors == set(sections)
    for anchor, section in sections.items():
        assert "**Means:**" in section, anchor
        assert "```sh" in section, anchor
        assert "**Good again:**" in section, anchor


def test_an_empty_group_is_alarm_and_silence_elsewhere_is_not() -> None:
    """A target group without targets reports no health; a fleet without errors reports no errors."""
    for plan in plans_of("prod"):
        assert (plan.missing == "breaching") is (plan.part == "empty")


def test_booting_is_no_alarm() -> None:
    """Being fewer, or unhealthy, is news only after what a node may take to boot."""
    settings = load_settings(PROJECT, "prod")
    for plan in plans_of("prod"):
        if plan.part in ("short", "unhealthy"):
            assert plan.tier is not None
            assert plan.of_them * 60 > settings.tier(plan.tier).boot.grace_seconds


def test_what_clients_notice_is_told_once(told: Registered) -> None:
    """By the composite alarm; the others tell on their own, and all tell when it is over."""
    noticed = {p.part_of_stack for p in plans_of("rehearsal") if p.clients_notice}
    topic = told.one("sns/topic:Topic", "alarms")
    destination = [f"arn:aws:{topic.type}:{topic.name}"]
    for alarm in told.of(ALARM):
        part = alarm.name.removeprefix("gf-rehearsal-")
        expected = [] if part in noticed else destination
        assert alarm.inputs.get("alarmActions", []) == alarm.inputs.get("okActions", []) == expected
    composite = told.one("cloudwatch/compositeAlarm:CompositeAlarm", "clients-notice").inputs
    assert composite["alarmActions"] == composite["okActions"] == destination
    for part in noticed:
        assert f'ALARM("{resource_name("rehearsal", part)}-1a2b3c4")' in composite["alarmRule"]
    assert composite["alarmRule"].count("ALARM(") == len(noticed)


def test_a_composite_rule_is_an_or() -> None:
    """One of them is enough."""
    assert composite_rule({"a": "x-1", "b": "y-2"}) == 'ALARM("x-1") OR ALARM("y-2")'


def test_metrics_of_alarms_are_counted_for_the_bill() -> None:
    """CloudWatch charges an alarm by the metrics that it looks at."""
    plans = plans_of("prod")
    assert series(plans) == sum(max(1, len(plan.metrics)) for plan in plans)
    assert series(plans) > len(plans)


# --- destinations


@pytest.fixture
def told(recorded: dict[str, Any]) -> Registered:
    """The rehearsal stack with alarms by mail."""
    return registered_as(recorded, "alarms by mail")


def registered_as(recorded: Mapping[str, Any], name: str) -> Registered:
    """The rehearsal stack under one of `told_alarms`."""
    return parsed({**recorded, "rehearsal": recorded[name]}, "rehearsal")


def test_a_mailing_topic_is_encrypted_with_a_key_that_alarms_may_use(told: Registered) -> None:
    """AWS's own key for SNS lets no alarm in: they would be lost without a word."""
    topic, key = told.one("sns/topic:Topic", "alarms"), told.one("kms/key:Key", "alarms")
    assert topic.inputs["kmsMasterKeyId"] == key.name + "-key"
    assert key.inputs["enableKeyRotation"] is True
    [_root, may] = json.loads(key.inputs["policy"])["Statement"]
    assert may["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert may["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert may["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    subscription = told.one("sns/topicSubscription:TopicSubscription", "alarms").inputs
    assert (subscription["protocol"], subscription["endpoint"]) == ("email", "oncall@example.com")


def test_only_alarms_of_the_account_may_publish(told: Registered) -> None:
    """No other account's, and no other service."""
    policy = told.one("sns/topicPolicy:TopicPolicy", "alarms").inputs["policy"]
    [statement, _tls] = json.loads(policy)["Statement"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Action"] == ["sns:Publish"]
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    assert statement["Condition"]["ArnLike"] == {
        "aws:SourceArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:*"
    }


def test_a_given_topic_is_used_as_it_is(recorded: dict[str, Any]) -> None:
    """Nothing is made beside it."""
    stack = registered_as(recorded, "alarms to a topic")
    [composite] = stack.of("cloudwatch/compositeAlarm:CompositeAlarm")
    assert composite.inputs["alarmActions"] == ["arn:aws:sns:us-east-1:123456789012:pager"]
    assert not [r for r in stack.resources if r.type.startswith(("aws:sns/", "aws:kms/"))]


def test_two_destinations_are_refused() -> None:
    """It names the two settings."""
    settings = load_settings(PROJECT, "dev").model_dump(mode="json", by_alias=True)
    both = {"topicArn": "arn:aws:sns:us-east-1:123456789012:pager", "email": "a@example.com"}
    with pytest.raises(ValueError, match="topicArn and email are both set"):
        Settings.model_validate({**settings, "alarms": both})


# --- dashboard


@pytest.mark.parametrize("stack", STACKS)
def test_widgets_are_what_cloudwatch_takes(stack: str) -> None:
    """Types, places on the grid of 24, and each type's own properties."""
    document = dashboard(stack, PRICES)
    assert set(document) == {"start", "periodOverride", "widgets"}
    assert 0 < len(document["widgets"]) <= 500
    for widget in document["widgets"]:
        assert set(widget) == {"type", "x", "y", "width", "height", "properties"}
        assert widget["x"] >= 0
        assert widget["x"] + widget["width"] <= GRID
        assert 1 <= widget["height"] <= 1000
        CHECKS[widget["type"]](widget["properties"])


def check_text(properties: Mapping[str, Any]) -> None:
    assert set(properties) == {"markdown"}
    assert properties["markdown"]


def check_alarm(properties: Mapping[str, Any]) -> None:
    assert set(properties) == {"title", "alarms"}
    assert 1 <= len(properties["alarms"]) <= 100


def check_metric(properties: Mapping[str, Any]) -> None:
    assert set(properties) == {"title", "metrics", "view", "stacked", "region", "period", "yAxis"}
    assert properties["view"] == "timeSeries"
    assert properties["period"] in PERIODS
    assert 1 <= len(properties["metrics"]) <= 100
    identities = [entry[-1]["id"] for entry in properties["metrics"] if "id" in entry[-1]]
    assert len(set(identities)) == len(identities)
    for entry in properties["metrics"]:
        check_series(entry, identities)


def check_series(entry: list[Any], identities: list[str]) -> None:
    *parts, options = entry
    if not parts:
        assert set(options) == {"expression", "label", "id"}
        assert IDENTITY.fullmatch(options["id"])
        assert set(re.findall(r"\b[a-z]\w*\b", options["expression"])) <= set(identities)
        return
    namespace, name, *dimensions = parts
    assert name in AWS_METRICS.get(namespace, OURS)
    assert len(dimensions) % 2 == 0
    assert all(isinstance(text, str) and text for text in dimensions)
    assert STATISTIC.fullmatch(options["stat"])
    assert set(options) <= {"stat", "label", "id", "visible"}


CHECKS = {"text": check_text, "alarm": check_alarm, "metric": check_metric}


@pytest.mark.parametrize("stack", STACKS)
def test_widgets_do_not_lie_on_one_another(stack: str) -> None:
    """No cell of the grid twice."""
    cells = [
        (x, y)
        for w in dashboard(stack, PRICES)["widgets"]
        for x in range(w["x"], w["x"] + w["width"])
        for y in range(w["y"], w["y"] + w["height"])
    ]
    assert len(set(cells)) == len(cells)


def test_everything_that_is_asked_for_is_shown() -> None:
    """Purchase options, notices, drains, lost requests, first tokens, in flight, health, queue, cost."""
    text = json.dumps(dashboard("prod", PRICES))
    for shown in (*OURS, *AWS_METRICS["AWS/SQS"], "HTTPCode_ELB_5XX_Count", "UnHealthyHostCount"):
        assert f'"{shown}"' in text
    for words in ("spot", "on-demand", "USD an hour", "goldenfleet:stack", "docs/oncall.md"):
        assert words in text


def test_a_tier_without_prices_has_no_cost() -> None:
    """A new type must not keep a stack from its dashboard."""
    [cost] = [w for w in dashboard("prod", {"gateway": PRICES["gateway"]})["widgets"] if is_cost(w)]
    labels = [entry[-1].get("label") for entry in cost["properties"]["metrics"]]
    assert "gateway" in labels
    assert "model" not in labels


def test_nobody_s_price_leaves_no_empty_graph() -> None:
    """CloudWatch refuses a graph of nothing."""
    assert not [w for w in dashboard("prod", {})["widgets"] if is_cost(w)]


def is_cost(widget: Mapping[str, Any]) -> bool:
    return bool(widget["properties"].get("title") == "Instances, estimated")


def test_the_stack_has_its_dashboard(registered: Registered) -> None:
    """Of its own names, with every alarm and the cost of every tier."""
    [made] = registered.of("cloudwatch/dashboard:Dashboard")
    text = made.inputs["dashboardBody"]
    assert f"gf-{registered.stack}-model-1a2b3c4" in text
    document = json.loads(text)
    [shown] = [w["properties"]["alarms"] for w in document["widgets"] if w["type"] == "alarm"]
    assert len(shown) == len(registered.of(ALARM)) + 1
    assert [w for w in document["widgets"] if is_cost(w)]
