"""Rules for what people go by: logs, alarms, tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fleet.policy.kinds import ALARM, COMPOSITE_ALARM, GROUP, LOG_GROUP, UNTAGGABLE
from fleet.policy.model import Resource, Stack, rule, whole_rule

TAGS = ("goldenfleet:stack", "goldenfleet:tier")
_RUNBOOK = ("https://", "docs/")


@rule(
    "Logs are kept for a stated time.",
    "Set retentionInDays (logRetentionDays): AWS's default is for ever.",
    [LOG_GROUP],
)
def log_retention(of: Resource) -> Iterator[str]:
    if not of.given.get("retentionInDays"):
        yield "retentionInDays is not set"


@whole_rule(
    "Every alarm of production reaches somebody, by itself or by an alarm over it.",
    "Set alarms.topicArn or alarms.email in the stack's file.",
    [ALARM, COMPOSITE_ALARM],
    production=True,
)
def alarm_destination(of: Resource, stack: Stack) -> Iterator[str]:
    above = stack.pointing("alarmRule", of, COMPOSITE_ALARM)
    if not any(alarm.given.count("alarmActions") for alarm in (of, *above)):
        yield "it has no alarmActions"


@rule(
    "Every alarm says where to read what to do.",
    "Put the runbook's address into alarmDescription.",
    [ALARM, COMPOSITE_ALARM],
)
def alarm_runbook(of: Resource) -> Iterator[str]:
    description = str(of.given.get("alarmDescription") or "")
    if not any(start in description for start in _RUNBOOK):
        yield "alarmDescription has no link to a runbook"


@rule(
    f"Everything that can have tags says whose it is: {' and '.join(TAGS)}.",
    "Make it inside the stack's components, whose transformation adds tags; or list its type in "
    "fleet/policy/kinds.py, where AWS has no tags for it.",
    [],
)
def tagged(of: Resource) -> Iterator[str]:
    if of.type in UNTAGGABLE:
        return
    tags = _group_tags(of) if of.type == GROUP else of.given.get("tags") or {}
    if missing := [tag for tag in TAGS if not tags.get(tag)]:
        yield f"it has no tag {' and no tag '.join(missing)}"


def _group_tags(of: Resource) -> Mapping[str, object]:
    """A group's tags are for its instances too."""
    launched = (tag for tag in of.given.each("tags") if tag.true("propagateAtLaunch"))
    return {str(tag.get("key")): tag.get("value") for tag in launched}


RULES = (log_retention, alarm_destination, alarm_runbook, tagged)
