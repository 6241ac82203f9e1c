"""Composite alarms: moto keeps and shows them, and has no call that makes one.

What a rule may hold, and that an alarm cannot be deleted while a rule names it: `PutCompositeAlarm` and
`DeleteAlarms` in the CloudWatch API reference. No alarm is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse

from fleet.rehearsal.cloud.patches import Patches

_NAMED = re.compile(r"(?:ALARM|OK|INSUFFICIENT_DATA)\(\s*\"?([^\")]+?)\"?\s*\)")
_MOST_CHILDREN = 100


def named(rule: str) -> list[str]:
    """The alarms that a rule names; an ARN names the alarm at its end."""
    return [found.rpartition(":alarm:")[2] for found in _NAMED.findall(rule)]


def refuse_rule(rule: str, alarms: Mapping[str, Any]) -> None:
    """Raise as AWS does for a rule that names nothing, too much, or an alarm that is not there."""
    children = named(rule)
    if not children or len(children) > _MOST_CHILDREN:
        raise ValidationError(f"AlarmRule must name 1 to {_MOST_CHILDREN} alarms, and names {len(children)}")
    missing = sorted(set(children) - set(alarms))
    if missing:
        raise ValidationError(f"Could not find the alarms {', '.join(missing)} that AlarmRule names")


def dependents(leaving: list[str], alarms: Mapping[str, Any]) -> Iterator[str]:
    """Composite alarms that stay and name one that is to go."""
    for name, alarm in alarms.items():
        if name not in leaving and alarm.rule is not None and set(named(alarm.rule)) & set(leaving):
            yield name


def install(patches: Patches) -> None:
    def put_composite_alarm(self: CloudWatchResponse) -> Any:
        refuse_rule(self._get_param("AlarmRule", ""), self.cloudwatch_backend.alarms)
        return self.put_metric_alarm()

    def make_delete(original: Any) -> Any:
        def delete_alarms(self: CloudWatchBackend, alarm_names: list[str]) -> None:
            if kept := sorted(dependents(alarm_names, self.alarms)):
                raise ValidationError(f"{', '.join(alarm_names)}: still named by {', '.join(kept)}")
            original(self, alarm_names)

        return delete_alarms

    patches.set(CloudWatchResponse, "put_composite_alarm", put_composite_alarm)
    patches.wrap(CloudWatchBackend, "delete_alarms", make_delete)
