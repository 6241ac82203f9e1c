"""Scheduled actions and policies: moto keeps some of them, mixes groups up, and carries nothing out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fleet.rehearsal.cloud.conftest import START, Aws, Emulate, Emulated, Plain

NOW = datetime.fromtimestamp(START, UTC)  # 2023-11-14 22:13:20


def put(aws: Aws, name: str = "night", group: str = "group", **wanted: Any) -> None:
    asked = {"Recurrence": "0 23 * * *", "MinSize": 1, **wanted}
    asked = {key: value for key, value in asked.items() if value is not None}
    aws.asg.put_scheduled_update_group_action(AutoScalingGroupName=group, ScheduledActionName=name, **asked)


def actions(aws: Aws, group: str = "group") -> list[dict[str, Any]]:
    found = aws.asg.describe_scheduled_actions(AutoScalingGroupName=group)
    return list(found["ScheduledUpdateGroupActions"])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"MinSize": None}, "At least one of MinSize, MaxSize or DesiredCapacity"),
        ({"MinSize": 3, "MaxSize": 2}, "Min bound must be less than or equal to max bound"),
        ({"Recurrence": "0 25 * * *"}, "bad hour: it is from 0 to 23"),
        ({"TimeZone": "Mars/Olympus"}, "Invalid time zone: Mars/Olympus"),
        ({"Recurrence": None}, "in the past"),
        ({"Recurrence": None, "StartTime": NOW - timedelta(hours=1)}, "in the past"),
        ({"EndTime": NOW + timedelta(minutes=1)}, "in the past"),
        ({"ScheduledActionName": "other"}, "same time already exists"),
    ],
)
def test_actions_that_cannot_be_are_refused(
    plain: Plain, emulate: Emulate, wanted: dict[str, Any], says: str
) -> None:
    """Moto takes them all."""

    def make(aws: Aws) -> None:
        aws.make_group()
        put(aws, "first")
        asked = {"AutoScalingGroupName": "group", "Recurrence": "0 23 * * *", "MinSize": 1, **wanted}
        name = asked.pop("ScheduledActionName", "first")
        given = {key: value for key, value in asked.items() if value is not None}
        aws.asg.put_scheduled_update_group_action(ScheduledActionName=name, **given)

    with plain() as aws:
        make(aws)
    with emulate() as aws, pytest.raises(ClientError, match=says):
        make(aws)


def test_actions_belong_to_their_group(plain: Plain, emulate: Emulate) -> None:
    """Two groups may have an action of one name; they go with the group."""

    def made(aws: Aws) -> list[int]:
        for name in ("one", "two"):
            aws.make_group(name, DesiredCapacity=0)
            put(aws, group=name)
        return [len(actions(aws, name)) for name in ("one", "two")]

    with plain() as aws:
        assert made(aws) == [0, 1]
    with emulate() as aws:
        assert made(aws) == [1, 1]
        assert actions(aws, "one")[0]["ScheduledActionARN"].endswith("Name/one:scheduledActionName/night")
        aws.asg.delete_scheduled_action(AutoScalingGroupName="one", ScheduledActionName="night")
        assert [len(actions(aws, name)) for name in ("one", "two")] == [0, 1]
        aws.asg.delete_auto_scaling_group(AutoScalingGroupName="two", ForceDelete=True)
        assert actions(aws, "two") == []


def wait_until(aws: Emulated, moment: datetime) -> None:
    aws.clock.now = moment.timestamp()
    aws.tick()


def sizes(aws: Aws) -> tuple[int, int, int]:
    group = aws.group()
    return group["MinSize"], group["DesiredCapacity"], group["MaxSize"]


def test_an_action_is_carried_out_each_time(plain: Plain, emulate: Emulate) -> None:
    """At its minute and not before; what it does not name stays, within what it does."""
    with plain() as aws:
        aws.make_group(MinSize=1, DesiredCapacity=2)
        put(aws, MinSize=3)
        assert sizes(aws) == (1, 2, 8)
    with emulate() as aws:
        aws.make_group(MinSize=1, DesiredCapacity=2)
        put(aws, MinSize=3, TimeZone="Europe/Zurich")  # 22:00 UTC, in winter
        wait_until(aws, datetime(2023, 11, 15, 21, 59, 59, tzinfo=UTC))
        assert sizes(aws) == (1, 2, 8)
        wait_until(aws, datetime(2023, 11, 15, 22, 0, tzinfo=UTC))
        assert sizes(aws) == (3, 3, 8)
        aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", MinSize=1, DesiredCapacity=1)
        aws.tick(60.0)
        assert sizes(aws) == (1, 1, 8)
        wait_until(aws, datetime(2023, 11, 16, 22, 0, tzinfo=UTC))
        assert sizes(aws) == (3, 3, 8)


def test_an_action_for_once_is_gone_afterwards(emulate: Emulate) -> None:
    """And so is one that recurs when its end has come."""
    with emulate() as aws:
        aws.make_group(DesiredCapacity=2)
        put(
            aws,
            "once",
            Recurrence=None,
            StartTime=NOW + timedelta(minutes=1),
            DesiredCapacity=1,
            MinSize=None,
        )
        put(
            aws,
            "twice",
            Recurrence="* * * * *",
            EndTime=NOW + timedelta(seconds=110),
            MaxSize=4,
            MinSize=None,
        )
        aws.tick(61.0)
        assert sizes(aws) == (0, 1, 4)
        assert [one["ScheduledActionName"] for one in actions(aws)] == ["twice"]
        aws.tick(60.0)
        assert actions(aws) == []


def test_a_group_whose_schedules_are_suspended_keeps_its_size(emulate: Emulate) -> None:
    """Until they are resumed: what was due meanwhile is done then."""
    with emulate() as aws:
        aws.make_group(DesiredCapacity=1)
        put(aws, Recurrence="* * * * *", MinSize=2)
        aws.asg.suspend_processes(AutoScalingGroupName="group", ScalingProcesses=["ScheduledActions"])
        aws.tick(61.0)
        assert sizes(aws) == (0, 1, 8)
        aws.asg.resume_processes(AutoScalingGroupName="group", ScalingProcesses=["ScheduledActions"])
        aws.tick(1.0)
        assert sizes(aws) == (2, 2, 8)


def follow(aws: Aws, **configuration: Any) -> None:
    aws.make_group(DesiredCapacity=0)
    aws.asg.put_scaling_policy(AutoScalingGroupName="group", PolicyName="policy", **configuration)


def forecast(**specification: Any) -> dict[str, Any]:
    pair = {"PredefinedMetricPairSpecification": {"PredefinedMetricType": "ASGCPUUtilization"}}
    whole = {"TargetValue": 70.0, **(specification or pair)}
    return {
        "PolicyType": "PredictiveScaling",
        "PredictiveScalingConfiguration": {"MetricSpecifications": [whole], "Mode": "ForecastOnly"},
    }


def custom(**metric: Any) -> dict[str, Any]:
    whole = {"Namespace": "N", "MetricName": "M", "Statistic": "Average", **metric}
    return {
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingConfiguration": {"TargetValue": 1.0, "CustomizedMetricSpecification": whole},
    }


LOAD = {"PredefinedLoadMetricSpecification": {"PredefinedMetricType": "ASGTotalCPUUtilization"}}


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        (custom(Period=20), "must be one of 10, 30, 60"),
        (custom(Statistic="Sum"), "no statistic but Average"),
        (custom(Metrics=[{"Id": "m", "Expression": "1"}]), "no metric math"),
        (forecast(**LOAD), "Specify a metric pair, or a load metric and a scaling metric"),
        (
            forecast(PredefinedMetricPairSpecification={"PredefinedMetricType": "ALBRequestCount"}),
            "Resource label must be specified",
        ),
    ],
)
def test_policies_that_cannot_be_are_refused(
    plain: Plain, emulate: Emulate, configuration: dict[str, Any], says: str
) -> None:
    """As AWS would, or because this cloud would not act on them."""
    with plain() as aws:
        follow(aws, **configuration)
    with emulate() as aws, pytest.raises(ClientError, match=says):
        follow(aws, **configuration)


def test_forecasts_are_kept_and_not_followed(emulate: Emulate) -> None:
    """They are described as they were put, have no alarms, and change nothing."""
    with emulate() as aws:
        follow(aws, **forecast())
        (policy,) = aws.asg.describe_policies()["ScalingPolicies"]
        assert policy["PredictiveScalingConfiguration"]["Mode"] == "ForecastOnly"
        assert policy["Alarms"] == []
        aws.tick(100.0, times=3)
        assert sizes(aws) == (0, 0, 8)
