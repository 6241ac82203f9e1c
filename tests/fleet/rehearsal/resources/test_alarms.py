"""Alarms on metric math and over other alarms: as pulumi-aws writes them, and as CloudWatch has them then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fleet.rehearsal.cloud import alarms
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.resources import UNKNOWN, handler_of
from fleet.rehearsal.resources.errors import ArgumentUnmappedError

METRIC = "cloudwatch/metricAlarm:MetricAlarm"
COMPOSITE = "cloudwatch/compositeAlarm:CompositeAlarm"


def query(identity: str, name: str, group: Any = "asg-1") -> dict[str, Any]:
    return {
        "id": identity,
        "returnData": False,
        "metric": {
            "namespace": "AWS/AutoScaling",
            "metricName": name,
            "dimensions": {"AutoScalingGroupName": group},
            "stat": "Average",
            "period": 60,
        },
    }


def short(group: Any = "asg-1") -> dict[str, Any]:
    return {
        "comparisonOperator": "GreaterThanThreshold",
        "evaluationPeriods": 20,
        "datapointsToAlarm": 20,
        "threshold": 0,
        "metricQueries": [
            query("desired", "GroupDesiredCapacity", group),
            query("serving", "GroupInServiceInstances", group),
            {"id": "result", "expression": "desired - serving", "label": "short", "returnData": True},
        ],
    }


@pytest.fixture
def composites(bench: Any) -> Iterator[Any]:
    """A bench on moto with what it lacks."""
    patches = Patches()
    alarms.install(patches)
    yield bench
    patches.undo()


def test_metric_math_reaches_cloudwatch(bench: Any) -> None:
    """Each metric with namespace, dimensions, statistic and period; the result is what is compared."""
    bench.make(METRIC, "short", **short())
    [alarm] = bench.call("cloudwatch.DescribeAlarms")["MetricAlarms"]
    desired, _serving, result = alarm["Metrics"]
    assert desired["MetricStat"]["Metric"] == {
        "Namespace": "AWS/AutoScaling",
        "MetricName": "GroupDesiredCapacity",
        "Dimensions": [{"Name": "AutoScalingGroupName", "Value": "asg-1"}],
    }
    assert (desired["MetricStat"]["Stat"], desired["MetricStat"]["Period"]) == ("Average", 60)
    assert (result["Expression"], result["ReturnData"]) == ("desired - serving", True)


def test_metric_math_changes_in_place(bench: Any) -> None:
    """Another expression is the same alarm."""
    bench.make(METRIC, "short", **short())
    changed = [*short()["metricQueries"][:2], {"id": "result", "expression": "serving", "returnData": True}]
    bench.change(METRIC, "short", metricQueries=changed)
    [alarm] = bench.call("cloudwatch.DescribeAlarms")["MetricAlarms"]
    assert alarm["Metrics"][2]["Expression"] == "serving"


def test_a_preview_knows_no_group_yet(bench: Any) -> None:
    """Unknown dimensions are checked as far as they are known, and a misspelt argument is still refused."""
    handler_of(f"aws:{METRIC}").check(bench.aws, short(UNKNOWN))
    wrong = {**short(UNKNOWN)["metricQueries"][0], "expresion": "m"}
    with pytest.raises(ArgumentUnmappedError, match="expresion"):
        handler_of(f"aws:{METRIC}").check(bench.aws, {**short(), "metricQueries": [wrong]})


def test_a_composite_alarm_lives_and_goes(composites: Any) -> None:
    """Made over another, found again, changed in place, and gone before what it is over."""
    composites.make(METRIC, "short", **short())
    made = composites.make(
        COMPOSITE, "noticed", alarmName="noticed", alarmRule='ALARM("short-0123456")', tags={"a": "b"}
    )
    assert composites.find(COMPOSITE, "noticed") == made == "noticed"
    assert composites.outputs(COMPOSITE, "noticed")["arn"].endswith(":alarm:noticed")
    composites.change(COMPOSITE, "noticed", alarmDescription="new", tags={"a": "c"})
    [alarm] = composites.call("cloudwatch.DescribeAlarms", AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert alarm["AlarmDescription"] == "new"
    with pytest.raises(ClientError, match="still named by noticed"):
        composites.delete(METRIC, "short")
    composites.delete(COMPOSITE, "noticed")
    assert composites.find(COMPOSITE, "noticed") is None
    composites.delete(METRIC, "short")
