"""Scheduled actions: what an Auto Scaling group does at a time of the day."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.handler import Handler, Want

_SIZES = ("desiredCapacity", "maxSize", "minSize")
_UNTOUCHED = -1
"""What pulumi-aws writes for a size that the action leaves alone; where the program gives none, it is 0."""


class Schedule(Handler):
    """Putting one is repeatable."""

    type = "aws:autoscaling/schedule:Schedule"
    create = "autoscaling.PutScheduledUpdateGroupAction"
    name_argument = "scheduledActionName"
    updates: ClassVar[Mapping[str, Any]] = dict.fromkeys(_SIZES, 0) | dict.fromkeys(
        ("endTime", "recurrence", "startTime", "timeZone")
    )

    def key(self, want: Want) -> str:
        return f"{want.inputs['autoscalingGroupName']} {want.physical}"

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        sizes = {size: inputs.get(size, 0) for size in _SIZES}
        kept = {size: value for size, value in sizes.items() if value != _UNTOUCHED}
        rest = {key: value for key, value in super().shaped(inputs).items() if key not in _SIZES}
        return {**rest, **kept}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, ScheduledActionName=want.physical, **request)
        return want.physical

    def find(self, aws: Aws, want: Want) -> str | None:
        return want.physical if self._described(aws, want) else None

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del identity
        return {"arn": self._described(aws, want)[0].get("ScheduledActionARN")}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        group = want.inputs["autoscalingGroupName"]
        aws.call(
            "autoscaling.DeleteScheduledAction", AutoScalingGroupName=group, ScheduledActionName=identity
        )

    def _described(self, aws: Aws, want: Want) -> list[dict[str, Any]]:
        group = want.inputs["autoscalingGroupName"]
        named = {"AutoScalingGroupName": group, "ScheduledActionNames": [want.physical]}
        answer = aws.call("autoscaling.DescribeScheduledActions", **named)
        return list(answer["ScheduledUpdateGroupActions"])


HANDLERS: tuple[Handler, ...] = (Schedule(),)
