"""Metric filters: what CloudWatch counts in a log group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want

_TRANSFORMATION = {"name": "metricName", "namespace": "metricNamespace", "value": "metricValue"}


class LogMetricFilter(Handler):
    """Putting one is repeatable."""

    type = "aws:cloudwatch/logMetricFilter:LogMetricFilter"
    create = "logs.PutMetricFilter"
    name_argument = "name"
    name_limit = 512
    members: ClassVar[Mapping[str, str]] = {"pattern": "filterPattern"}
    updates: ClassVar[Mapping[str, Any]] = {"metricTransformation": REQUIRED, "pattern": REQUIRED}

    def key(self, want: Want) -> str:
        return f"{want.inputs['logGroupName']} {want.physical}"

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        told = shaped.pop("metricTransformation", None)
        if isinstance(told, Mapping):
            told = {_TRANSFORMATION.get(key, key): value for key, value in told.items()}
        return {**shaped, "metricTransformations": [told]}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, filterName=want.physical, **request)
        return want.physical

    def find(self, aws: Aws, want: Want) -> str | None:
        named = {"logGroupName": want.inputs["logGroupName"], "filterNamePrefix": want.physical}
        found = aws.call("logs.DescribeMetricFilters", **named)["metricFilters"]
        return want.physical if want.physical in [item["filterName"] for item in found] else None

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        aws.call("logs.DeleteMetricFilter", logGroupName=want.inputs["logGroupName"], filterName=identity)


HANDLERS: tuple[Handler, ...] = (LogMetricFilter(),)
