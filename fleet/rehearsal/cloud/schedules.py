"""Scheduled actions: kept a group each, checked, and carried out when their time comes.

Times are of the wall, which no time scale changes. Auto Scaling guide, "Scheduled scaling for Amazon EC2 Auto
Scaling": at its time an action sets the sizes that it names, and nothing sets them back; one without a
recurrence is gone afterwards; no two of a group have the same time; a group has at most 125.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import AutoScalingBackend
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from fleet import cron
from fleet.rehearsal.cloud import groups
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World, utc

_MOST = 125


@dataclass
class Action:
    """Attributes are named as moto's serializer reads them."""

    auto_scaling_group_name: str
    scheduled_action_name: str
    scheduled_action_arn: str
    min_size: int | None
    max_size: int | None
    desired_capacity: int | None
    start_time: Any
    end_time: Any
    recurrence: str | None
    time_zone: str | None
    due: datetime | None = None


def run(world: World, group: Group) -> None:
    """Carry out what is due."""
    now = _moment(world)
    for key, action in list(_actions(world).items()):
        if action.auto_scaling_group_name != group.name or action.due is None or now < action.due:
            continue
        _carry_out(world, group, action)
        action.due = _next(action, now)
        if action.due is None:
            del _actions(world)[key]


def _carry_out(world: World, group: Group, action: Action) -> None:
    moto = group.moto
    least = int(moto.min_size or 0) if action.min_size is None else int(action.min_size)
    most = int(moto.max_size or 0) if action.max_size is None else int(action.max_size)
    wanted = group.desired if action.desired_capacity is None else int(action.desired_capacity)
    world.tell("schedule.ran", None, group.name, action=str(action.scheduled_action_name))
    if least > most:
        return  # as AWS: the group was changed since, and the action fails
    moto.min_size, moto.max_size = least, most
    groups.set_desired(
        world,
        group,
        min(max(wanted, least), most),
        "a scheduled action update of AutoScalingGroup constraints",
    )


def _next(action: Action, after: datetime) -> datetime | None:
    if not action.recurrence:
        start = _time(action.start_time)
        return start if start is not None and start > after else None
    begin = _time(action.start_time)
    if begin is not None and begin > after:
        return begin  # "performs the action at this time, and then based on the specified recurrence"
    found = cron.parse(action.recurrence).next_after(after, ZoneInfo(action.time_zone or "Etc/UTC"))
    end = _time(action.end_time)
    return None if found is None or (end is not None and found > end) else found


def _put(world: World, wanted: Mapping[str, Any]) -> None:
    group = groups.find(world, wanted["AutoScalingGroupName"])
    name = str(wanted["ScheduledActionName"])
    _require(wanted)
    recurrence = wanted.get("Recurrence")
    action = Action(
        group.name,
        name,
        f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scheduledUpdateGroupAction:{uuid.uuid4()}:"
        f"autoScalingGroupName/{group.name}:scheduledActionName/{name}",
        _size(wanted.get("MinSize")),
        _size(wanted.get("MaxSize")),
        _size(wanted.get("DesiredCapacity")),
        wanted.get("StartTime") or wanted.get("Time"),
        wanted.get("EndTime"),
        recurrence,
        wanted.get("TimeZone") or ("Etc/UTC" if recurrence else None),
    )
    action.due = _next(action, _moment(world))
    if action.due is None:
        raise ValidationError("Given start time is in the past")
    _require_room(world, group, action)
    _actions(world)[_key(group.name, name)] = action


def _size(given: Any) -> int | None:
    return None if given is None else int(given)


def _actions(world: World) -> dict[str, Action]:
    """In the place where moto keeps its own."""
    return cast("dict[str, Action]", world.autoscaling.scheduled_actions)


def _require(wanted: Mapping[str, Any]) -> None:
    sizes = [wanted.get(key) for key in ("MinSize", "MaxSize", "DesiredCapacity")]
    if all(size is None for size in sizes):
        raise ValidationError("At least one of MinSize, MaxSize or DesiredCapacity must be specified.")
    if None not in sizes[:2] and int(sizes[0] or 0) > int(sizes[1] or 0):
        raise ValidationError("Min bound must be less than or equal to max bound")
    if wanted.get("Recurrence"):
        try:
            cron.parse(str(wanted["Recurrence"]))
            ZoneInfo(str(wanted.get("TimeZone") or "Etc/UTC"))
        except cron.NotCron as error:
            raise ValidationError(
                f"Given recurrence string: {wanted['Recurrence']} is invalid: {error}"
            ) from error
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValidationError(f"Invalid time zone: {wanted['TimeZone']}") from error


def _require_room(world: World, group: Group, action: Action) -> None:
    others = [
        other
        for other in _actions(world).values()
        if _is_of(other, group.name) and other.scheduled_action_name != action.scheduled_action_name
    ]
    if len(others) >= _MOST:
        raise AutoscalingClientError("LimitExceeded", "Scheduled action limit exceeded")
    same = ("recurrence", "start_time", "time_zone")
    if any(all(getattr(other, key) == getattr(action, key) for key in same) for other in others):
        raise AutoscalingClientError(
            "AlreadyExists", "A scheduled action with the same time already exists in this group."
        )


def _time(given: Any) -> datetime | None:
    if given in (None, ""):
        return None
    found = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _moment(world: World) -> datetime:
    return utc(world.clock()).replace(tzinfo=UTC)


def _key(group: str, name: str) -> str:
    return f"{group}/{name}"


def _is_of(action: Action, group_name: str) -> bool:
    return bool(action.auto_scaling_group_name == group_name)


def install(world: World, patches: Patches) -> None:
    """Actions keyed by group and name."""

    def put_scheduled_update_group_action(self: AutoScalingResponse) -> ActionResult:
        _put(world, self._get_params())
        return EmptyResult()

    def delete_scheduled_action(
        self: AutoScalingBackend, auto_scaling_group_name: str, scheduled_action_name: str
    ) -> None:
        if self.scheduled_actions.pop(_key(auto_scaling_group_name, scheduled_action_name), None) is None:
            raise ValidationError("Scheduled action name not found")

    patches.set(AutoScalingResponse, "put_scheduled_update_group_action", put_scheduled_update_group_action)
    patches.set(AutoScalingBackend, "delete_scheduled_action", delete_scheduled_action)
