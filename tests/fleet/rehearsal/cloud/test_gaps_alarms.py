"""Gaps of moto 5.2.5 in alarms: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from fleet.rehearsal.cloud.alarms import named

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain


def put_alarm(aws: Aws, name: str) -> None:
    aws.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=60,
    )


def composites(aws: Aws) -> list[dict[str, Any]]:
    found = aws.cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm", "MetricAlarm"])["CompositeAlarms"]
    return list(found)


def test_composite_alarms_can_be_made(plain: Plain, emulate: Emulate) -> None:
    """With their rule, beside the alarms that they are over."""
    rule = 'ALARM("late") OR ALARM(dead)'
    with plain() as aws, pytest.raises((ClientError, NotImplementedError)):
        aws.cloudwatch.put_composite_alarm(AlarmName="noticed", AlarmRule=rule)
    with emulate() as aws:
        for name in ("late", "dead"):
            put_alarm(aws, name)
        aws.cloudwatch.put_composite_alarm(AlarmName="noticed", AlarmRule=rule)
        [alarm] = composites(aws)
        assert (alarm["AlarmName"], alarm["AlarmRule"]) == ("noticed", rule)


def test_a_rule_over_an_alarm_that_is_not_there_is_refused(emulate: Emulate) -> None:
    """A misspelt name would watch over nothing."""
    with emulate() as aws:
        put_alarm(aws, "late")
        with pytest.raises(ClientError, match="dead"):
            aws.cloudwatch.put_composite_alarm(
                AlarmName="noticed", AlarmRule='ALARM("late") OR ALARM("dead")'
            )


def test_an_alarm_that_a_rule_names_stays(plain: Plain, emulate: Emulate) -> None:
    """It goes after the composite alarm, or with it."""
    with plain() as aws:
        put_alarm(aws, "late")
        aws.cloudwatch.delete_alarms(AlarmNames=["late"])
    with emulate() as aws:
        put_alarm(aws, "late")
        aws.cloudwatch.put_composite_alarm(AlarmName="noticed", AlarmRule='ALARM("late")')
        with pytest.raises(ClientError, match="still named by noticed"):
            aws.cloudwatch.delete_alarms(AlarmNames=["late"])
        aws.cloudwatch.delete_alarms(AlarmNames=["noticed"])
        aws.cloudwatch.delete_alarms(AlarmNames=["late"])
        assert aws.cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_rules_name_alarms_by_name_or_arn() -> None:
    """With or without quotes, in each state."""
    rule = 'NOT OK("a b") AND (ALARM(arn:aws:cloudwatch:us-east-1:1:alarm:c-1) OR INSUFFICIENT_DATA( d ))'
    assert named(rule) == ["a b", "c-1", "d"]
