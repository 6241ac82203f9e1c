"""Log groups, alarms and dashboards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list, without_tags


class LogGroup(Handler):
    type = "aws:cloudwatch/logGroup:LogGroup"
    create = "logs.CreateLogGroup"
    name_argument = "name"
    read_by_name = True
    name_limit = 512
    settled = frozenset({"retentionInDays", "skipDestroy"})
    updates: ClassVar[Mapping[str, Any]] = {"retentionInDays": 0, "skipDestroy": False, "tags": {}}

    def find(self, aws: Aws, want: Want) -> str | None:
        groups = aws.call("logs.DescribeLogGroups", logGroupNamePrefix=want.physical)["logGroups"]
        return want.physical if want.physical in [group["logGroupName"] for group in groups] else None

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(
            self.create, logGroupName=want.physical, **self.fitted(aws, self.create, self.shaped(want.inputs))
        )
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "retentionInDays" in changed:
            self._retain(aws, identity, int(want.get("retentionInDays", 0)))
        if "tags" in changed:
            self._retag(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        return {"arn": aws.arn("logs", f"log-group:{identity}"), "name": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        if not want.get("skipDestroy"):
            aws.call("logs.DeleteLogGroup", logGroupName=identity)

    def _retain(self, aws: Aws, identity: str, days: int) -> None:
        """No days means for ever."""
        if days:
            aws.call("logs.PutRetentionPolicy", logGroupName=identity, retentionInDays=days)
        else:
            aws.call("logs.DeleteRetentionPolicy", logGroupName=identity)

    def _retag(self, aws: Aws, identity: str, want: Want) -> None:
        changed, removed = tag_changes(want)
        arn = aws.arn("logs", f"log-group:{identity}")
        if changed:
            aws.call("logs.TagResource", resourceArn=arn, tags=changed)
        if removed:
            aws.call("logs.UntagResource", resourceArn=arn, tagKeys=removed)


class _Alarm(Handler):
    """Putting an alarm replaces all of it, and is repeatable; its tags are told only where it is new."""

    kind: ClassVar[str]
    """In DescribeAlarms: the answer's key, and without its s a value of AlarmTypes."""

    def find(self, aws: Aws, want: Want) -> str | None:
        asked = {"AlarmNames": [want.physical], "AlarmTypes": [self.kind.removesuffix("s")]}
        return want.physical if aws.call("cloudwatch.DescribeAlarms", **asked)[self.kind] else None

    def make(self, aws: Aws, want: Want) -> str:
        self._put(aws, want, want.inputs)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if set(changed) - {"tags"}:
            self._put(aws, want, without_tags(want))
        if "tags" in changed:
            _retag_alarm(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        assert self.name_argument is not None
        return {"arn": aws.arn("cloudwatch", f"alarm:{identity}"), self.name_argument: identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("cloudwatch.DeleteAlarms", AlarmNames=[identity])

    def _put(self, aws: Aws, want: Want, arguments: Mapping[str, Any]) -> None:
        request = self.fitted(aws, self.create, self.shaped(arguments))
        aws.call(self.create, AlarmName=want.physical, **request)


class MetricAlarm(_Alarm):
    type = "aws:cloudwatch/metricAlarm:MetricAlarm"
    create = "cloudwatch.PutMetricAlarm"
    kind = "MetricAlarms"
    name_argument = "name"
    members: ClassVar[Mapping[str, str]] = {"metricQueries": "Metrics"}
    updates: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        (
            "actionsEnabled",
            "alarmActions",
            "alarmDescription",
            "datapointsToAlarm",
            "dimensions",
            "evaluateLowSampleCountPercentiles",
            "extendedStatistic",
            "insufficientDataActions",
            "metricName",
            "metricQueries",
            "namespace",
            "okActions",
            "period",
            "statistic",
            "threshold",
            "thresholdMetricId",
            "treatMissingData",
            "unit",
        )
    ) | {"comparisonOperator": REQUIRED, "evaluationPeriods": REQUIRED, "tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        if "dimensions" in shaped:
            shaped["Dimensions"] = _dimensions(shaped.pop("dimensions"))
        if isinstance(shaped.get("Metrics"), list):
            shaped["Metrics"] = [_query(query) for query in shaped["Metrics"]]
        return shaped


class CompositeAlarm(_Alarm):
    """Over others: AWS deletes none that it still names, so that it must go first."""

    type = "aws:cloudwatch/compositeAlarm:CompositeAlarm"
    create = "cloudwatch.PutCompositeAlarm"
    kind = "CompositeAlarms"
    name_argument = "alarmName"
    updates: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        ("actionsSuppressor", "alarmActions", "alarmDescription", "insufficientDataActions", "okActions")
    ) | {"actionsEnabled": True, "alarmRule": REQUIRED, "tags": {}}


def _dimensions(given: Any) -> Any:
    """A list of pairs, where pulumi-aws has a mapping."""
    if not isinstance(given, Mapping):
        return given
    return [{"Name": name, "Value": value} for name, value in given.items()]


def _query(query: Any) -> Any:
    """One of metric math: what pulumi-aws calls its metric, AWS calls a MetricStat of a Metric."""
    if not isinstance(query, Mapping) or not isinstance(query.get("metric"), Mapping):
        return query
    metric = dict(query["metric"])
    statistic = {key: metric.pop(key) for key in ("period", "stat", "unit") if key in metric}
    if "dimensions" in metric:
        metric["dimensions"] = _dimensions(metric["dimensions"])
    rest = {key: value for key, value in query.items() if key != "metric"}
    return {**rest, "metricStat": {"metric": metric, **statistic}}


def _retag_alarm(aws: Aws, identity: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    arn = aws.arn("cloudwatch", f"alarm:{identity}")
    if changed:
        aws.call("cloudwatch.TagResource", ResourceARN=arn, Tags=tag_list(changed))
    if removed:
        aws.call("cloudwatch.UntagResource", ResourceARN=arn, TagKeys=removed)


class Dashboard(Handler):
    """Putting a dashboard is repeatable."""

    type = "aws:cloudwatch/dashboard:Dashboard"
    create = "cloudwatch.PutDashboard"
    name_argument = "dashboardName"
    updates: ClassVar[Mapping[str, Any]] = {"dashboardBody": REQUIRED}

    def find(self, aws: Aws, want: Want) -> str | None:
        entries = aws.call("cloudwatch.ListDashboards", DashboardNamePrefix=want.physical)["DashboardEntries"]
        return want.physical if want.physical in [entry["DashboardName"] for entry in entries] else None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, DashboardName=want.physical, **request)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if "dashboardBody" in changed:
            self.make(aws, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        return {"dashboardArn": f"arn:aws:cloudwatch::{aws.account}:dashboard/{identity}"}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("cloudwatch.DeleteDashboards", DashboardNames=[identity])


HANDLERS: tuple[Handler, ...] = (LogGroup(), MetricAlarm(), CompositeAlarm(), Dashboard())
