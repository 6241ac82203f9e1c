"""What metric filters count in log groups, and the alarms on that: moto keeps both and acts on neither.

Filters as "Filter pattern syntax for metric filters" (CloudWatch Logs guide) has them, of one form: a field
of a JSON line is some text. Alarms as "Alarm evaluation" (CloudWatch guide), where one period is looked at.
Alarms on other metrics never ring by themselves here.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from moto.cloudwatch.models import Alarm, MetricDatum, cloudwatch_backends
from moto.logs.models import LogsBackend, logs_backends

from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World, utc

_PATTERN = re.compile(r'\{ \$\.(?P<field>\w+) = "(?P<text>[^"]*)" \}')
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "Average": fmean,
    "Maximum": max,
    "Minimum": min,
    "Sum": sum,
}
_MISSING = {"breaching": "ALARM", "notBreaching": "OK", "missing": "INSUFFICIENT_DATA"}


def judge(world: World) -> None:
    """Set the state of each alarm on a counted metric, where it is another than before."""
    counted = {
        (one["metricNamespace"], one["metricName"])
        for found in logs_backends[ACCOUNT][REGION].filters.metric_filters
        for one in found["metricTransformations"]
    }
    for alarm in list(cloudwatch_backends[ACCOUNT][REGION].alarms.values()) if counted else ():
        if (alarm.namespace, alarm.metric_name) in counted and int(alarm.evaluation_periods) == 1:
            state = _state(world, alarm)
            if state not in (None, alarm.state_value):
                alarm.update_state(f"{alarm.statistic} of {alarm.metric_name}", "{}", str(state))


def _state(world: World, alarm: Alarm) -> str | None:
    """None where an alarm without data keeps its state."""
    since = utc(world.clock() - world.scaled(float(alarm.period)))
    dimensions = {(one.name, one.value) for one in alarm.dimensions}
    values = [
        float(datum.value)
        for datum in list(cloudwatch_backends[ACCOUNT][REGION].metric_data)
        if isinstance(datum, MetricDatum)
        and (datum.namespace, datum.name) == (alarm.namespace, alarm.metric_name)
        and datum.timestamp.replace(tzinfo=None) >= since
        and {(one.name, one.value) for one in datum.dimensions} == dimensions
    ]
    if not values:
        return _MISSING.get(alarm.treat_missing_data or "missing")
    compare, value = _COMPARISONS[alarm.comparison_operator], _STATISTICS[alarm.statistic](values)
    return "ALARM" if compare(value, float(alarm.threshold)) else "OK"


def _count(group: str, events: Sequence[Mapping[str, Any]]) -> None:
    """What filters of the log group make of some of its lines."""
    found = logs_backends[ACCOUNT][REGION].filters.get_matching_filters(log_group_name=group)
    for one in found:
        pattern = _PATTERN.fullmatch(one["filterPattern"])
        if pattern is None:
            continue
        for event in events:
            line = _json(event["message"])
            if line.get(pattern["field"]) == pattern["text"]:
                for transformation in one["metricTransformations"]:
                    _put(transformation, line, event["timestamp"] / 1000)


def _put(transformation: Mapping[str, Any], line: Mapping[str, Any], at: float) -> None:
    value = _told(transformation["metricValue"], line)
    dimensions = {n: _told(v, line) for n, v in (transformation.get("dimensions") or {}).items()}
    if value is None or None in dimensions.values():
        return
    datum = {
        "MetricName": transformation["metricName"],
        "Value": float(value),
        "Timestamp": utc(at),
        "Dimensions": [{"Name": n, "Value": str(v)} for n, v in dimensions.items()],
    }
    cloudwatch_backends[ACCOUNT][REGION].put_metric_data(transformation["metricNamespace"], [datum])


def _told(what: str, line: Mapping[str, Any]) -> Any:
    """A field of the line, or the text itself."""
    return line.get(what.removeprefix("$.")) if what.startswith("$.") else what


def _json(message: str) -> dict[str, Any]:
    try:
        found = json.loads(message)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def install(patches: Patches) -> None:
    def make(original: Any) -> Any:
        def put_log_events(
            self: LogsBackend, log_group_name: str, log_stream_name: str, log_events: list[dict[str, Any]]
        ) -> Any:
            answer = original(self, log_group_name, log_stream_name, log_events)
            _count(log_group_name, log_events)
            return answer

        return put_log_events

    patches.wrap(LogsBackend, "put_log_events", make)
