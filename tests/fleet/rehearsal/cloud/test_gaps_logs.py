"""Gaps of moto 5.2.5 in metric filters and the alarms on them: the emulated cloud counts, and rings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulated, Plain

GROUP = "/goldenfleet/lab/control"
BAD = json.dumps({"event": "nodes.given_up", "stack": "lab", "tier": "model", "count": 2})


def prepare(aws: Aws, missing: str = "notBreaching") -> Any:
    """A filter in a log group, and an alarm on what it counts of the tier `model`; gives logs' client."""
    logs = aws.logs
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="one")
    logs.put_metric_filter(
        logGroupName=GROUP,
        filterName="given-up",
        filterPattern='{ $.event = "nodes.given_up" }',
        metricTransformations=[
            {
                "metricNamespace": "Goldenfleet",
                "metricName": "NodesGivenUp",
                "metricValue": "$.count",
                "dimensions": {"Stack": "$.stack", "Tier": "$.tier"},
            }
        ],
    )
    aws.cloudwatch.put_metric_alarm(
        AlarmName="never-ready",
        Namespace="Goldenfleet",
        MetricName="NodesGivenUp",
        Dimensions=[{"Name": "Stack", "Value": "lab"}, {"Name": "Tier", "Value": "model"}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData=missing,
    )
    return logs


def say(logs: Any, line: str, at: float) -> None:
    logs.put_log_events(
        logGroupName=GROUP, logStreamName="one", logEvents=[{"timestamp": int(at * 1000), "message": line}]
    )


def state(aws: Aws) -> str:
    return str(aws.cloudwatch.describe_alarms()["MetricAlarms"][0]["StateValue"])


def test_moto_counts_nothing(plain: Plain) -> None:
    """It keeps filters and alarms, and the latter stay as they were made."""
    with plain() as aws:
        say(prepare(aws), BAD, 1_700_000_000)
        assert aws.cloudwatch.list_metrics()["Metrics"] == []
        assert state(aws) == "OK"


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        BAD.replace("nodes.given_up", "notice.seen"),
        BAD.replace("model", "gateway"),
        BAD.replace("2", "0"),
        json.dumps({"event": "nodes.given_up", "count": 2}),
        json.dumps({"event": "nodes.given_up", "stack": "lab", "tier": "model"}),
    ],
)
def test_other_lines_ring_nothing(aws: Emulated, line: str) -> None:
    """Junk, other events, other tiers, nothing to count, and lines that lack what is counted."""
    say(prepare(aws), line, aws.clock.now)
    aws.tick(1)
    assert state(aws) == "OK"


def test_an_alarm_rings_for_a_period(aws: Emulated) -> None:
    """Of sixty of AWS's seconds, from the line that is counted on; then silence is no alarm."""
    logs = prepare(aws)
    say(logs, BAD, aws.clock.now)
    aws.tick(5)
    assert state(aws) == "ALARM"
    aws.tick(2)
    assert state(aws) == "OK"


def test_an_alarm_may_stay_as_it_is_without_data(aws: Emulated) -> None:
    """As one on a base does, of which something is said only when it changes."""
    logs = prepare(aws, missing="ignore")
    say(logs, BAD, aws.clock.now)
    aws.tick(1)
    aws.tick(1000)
    assert state(aws) == "ALARM"
    say(logs, BAD.replace("2", "0"), aws.clock.now)
    aws.tick(1)
    assert state(aws) == "OK"
