"""What is known of a stack's control plane: asked of AWS side by side, each part on its own.

A part that may not be asked, or fails, is a fact itself: the others are still worth telling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.oncall.aws import Aws
from fleet.oncall.drains import dead_letter_url, queue_url
from fleet.oncall.errors import AwsFailed, OnCallError
from fleet.oncall.history import NoticeEvent, read_history
from fleet.oncall.nodes import control_function
from fleet.oncall.snapshot import Snapshot
from fleet.oncall.threads import begin
from fleet.stack.naming import resource_name

LOOKED_BACK_S: Final = 900.0
ACTIVITIES_S: Final = 3600.0
_LOOP = ("-m", "fleet.control")


@dataclass(frozen=True)
class Rule:
    name: str
    enabled: bool
    feeds_queue: bool


@dataclass(frozen=True)
class Queue:
    waiting: int
    in_work: int
    oldest_s: float | None = None
    """None where nothing measures it."""


@dataclass(frozen=True)
class Function:
    """The control handler on AWS."""

    state: str
    fed: bool
    """Its event source mapping is enabled."""
    errors: float
    throttles: float


@dataclass(frozen=True)
class Alarm:
    name: str
    state: str
    reason: str
    tells: bool
    """It has an action, and actions are on."""
    composite: bool = False


@dataclass(frozen=True)
class Activity:
    group: str
    at: float
    status: str
    message: str


@dataclass(frozen=True)
class Facts:
    """A part that could not be asked is None, and `untold` has why."""

    who: str | None = None
    rules: Sequence[Rule] | None = None
    queue: Queue | None = None
    dead_letters: int | None = None
    function: Function | None = None
    loop_runs: bool | None = None
    """The control handler in a rehearsal."""
    history: Sequence[NoticeEvent] | None = None
    alarms: Sequence[Alarm] | None = None
    activities: Sequence[Activity] | None = None
    emulated: bool = False
    untold: Mapping[str, str] = field(default_factory=dict)


def gather(aws: Aws, snapshot: Snapshot, clock: Callable[[], float] = time.time) -> Facts:
    """Never raises OnCallError: what fails is told in `untold`."""
    now = clock()
    parts: dict[str, Callable[[], Any]] = {
        "who": lambda: aws.call("sts.get_caller_identity")["Arn"],
        "rules": lambda: _rules(aws),
        "queue": lambda: _queue(aws, queue_url(aws), now),
        "dead_letters": lambda: _queue(aws, dead_letter_url(aws), now).waiting,
        "history": lambda: read_history(aws, now - LOOKED_BACK_S),
        "alarms": lambda: _alarms(aws),
        "activities": lambda: _activities(aws, [tier.group for tier in snapshot.tiers], now),
    }
    if aws.kept is None:
        parts["function"] = lambda: _function(aws, now)
    else:
        run_dir = Path(aws.kept.run_dir)
        parts["loop_runs"] = lambda: _loop_runs(run_dir)
    found, untold = _asked(parts)
    return Facts(**found, emulated=aws.kept is not None, untold=untold)


def _asked(parts: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    found: dict[str, Any] = {}
    untold: dict[str, str] = {}
    waiting = {name: begin(ask) for name, ask in parts.items()}
    for name, future in waiting.items():
        try:
            found[name] = future.result()
        except OnCallError as error:
            untold[name] = error.message
    return found, untold


def _rules(aws: Aws) -> list[Rule]:
    queue = _arn(aws, queue_url(aws))
    prefix = resource_name(aws.stack, "notices-")
    found = aws.pages("events.list_rules", "Rules", NamePrefix=prefix)
    return [
        Rule(rule["Name"], rule["State"] == "ENABLED", _feeds(aws, rule["Name"], queue)) for rule in found
    ]


def _feeds(aws: Aws, rule: str, queue_arn: str) -> bool:
    targets = aws.pages("events.list_targets_by_rule", "Targets", Rule=rule)
    return any(target["Arn"] == queue_arn for target in targets)


def _arn(aws: Aws, url: str) -> str:
    asked = aws.call("sqs.get_queue_attributes", QueueUrl=url, AttributeNames=["QueueArn"])
    return str(asked["Attributes"]["QueueArn"])


def _queue(aws: Aws, url: str, now: float) -> Queue:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = aws.call("sqs.get_queue_attributes", QueueUrl=url, AttributeNames=names)["Attributes"]
    named = {"QueueName": url.rpartition("/")[2]}
    oldest = _measured(aws, "AWS/SQS", "ApproximateAgeOfOldestMessage", named, "Maximum", now)
    return Queue(int(told[names[0]]), int(told[names[1]]), max(oldest) if oldest else None)


def _function(aws: Aws, now: float) -> Function | None:
    """None when there is none."""
    name = control_function(aws.stack)
    try:
        told = aws.call("lambda.get_function_configuration", FunctionName=name)
    except AwsFailed as exc:
        if exc.code == "ResourceNotFoundException":
            return None
        raise
    mappings = aws.pages("lambda.list_event_source_mappings", "EventSourceMappings", FunctionName=name)
    of_it = {"FunctionName": name}
    return Function(
        state=str(told.get("State", "Active")),
        fed=any(one["State"] == "Enabled" for one in mappings),
        errors=sum(_measured(aws, "AWS/Lambda", "Errors", of_it, "Sum", now)),
        throttles=sum(_measured(aws, "AWS/Lambda", "Throttles", of_it, "Sum", now)),
    )


def _loop_runs(run_dir: Path) -> bool:
    """The process that handles notices in a rehearsal, found by its command line and folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            told = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if tuple(told[1:3]) == _LOOP and (entry / "cwd").readlink() == run_dir:
                return True
        except OSError:
            continue  # it ended just now, or is another user's
    return False


def _alarms(aws: Aws) -> list[Alarm]:
    prefix = resource_name(aws.stack, "")
    kinds = {"AlarmNamePrefix": prefix, "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
    found = []
    for key, composite in (("MetricAlarms", False), ("CompositeAlarms", True)):
        for one in aws.pages("cloudwatch.describe_alarms", key, **kinds):
            tells = bool(one.get("AlarmActions")) and one.get("ActionsEnabled", True)
            state, reason = one.get("StateValue", ""), one.get("StateReason", "")
            found.append(Alarm(one["AlarmName"], state, reason, tells, composite))
    return found


def _activities(aws: Aws, groups: Sequence[str], now: float) -> list[Activity]:
    found = []
    for group in groups:
        asked = {"AutoScalingGroupName": group, "MaxRecords": 50}
        for one in aws.call("autoscaling.describe_scaling_activities", **asked)["Activities"]:
            at = one["StartTime"].timestamp()
            if now - at <= ACTIVITIES_S:
                found.append(Activity(group, at, one["StatusCode"], one.get("StatusMessage", "")))
    return found


def _measured(
    aws: Aws, namespace: str, metric: str, dimensions: Mapping[str, str], statistic: str, now: float
) -> list[float]:
    end = datetime.fromtimestamp(now, UTC)
    told = aws.call(
        "cloudwatch.get_metric_statistics",
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=end - timedelta(seconds=LOOKED_BACK_S),
        EndTime=end,
        Period=60,
        Statistics=[statistic],
    )
    return [float(point[statistic]) for point in told["Datapoints"]]
