"""Instance refreshes: every member replaced, some at a time, never below the healthy minimum."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from fleet.rehearsal.cloud import activities, groups, members
from fleet.rehearsal.cloud.capacity import Fact, refresh_step
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group, Refresh
from fleet.rehearsal.cloud.template import require_launchable, version_of
from fleet.rehearsal.cloud.world import World, utc

_DEFAULT_MIN_HEALTHY = 90
_DEFAULT_MAX_HEALTHY = 100


def start(world: World, group: Group, wanted: Mapping[str, Any]) -> Refresh:
    """Begin a refresh towards the group's template, or towards the `DesiredConfiguration` given."""
    if group.refresh() is not None:
        raise AutoscalingClientError(
            "InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the request."
        )
    preferences = dict(wanted.get("Preferences") or {})
    configuration = wanted.get("DesiredConfiguration")
    if configuration:
        _configure(world, group.moto, configuration)
    if str(preferences.get("AutoRollback")).lower() == "true":
        _require_rollback(group.moto, configuration)
    refresh = _make(world, group, preferences)
    group.refreshes.insert(0, refresh)
    world.tell("refresh.started", None, group.name, instances=str(refresh.total))
    return refresh


def step(world: World, group: Group, facts: list[Fact]) -> None:
    """Replace the next members, once those of the step before are settled."""
    refresh = group.refresh()
    if refresh is None:
        return
    refresh.status = "InProgress"
    refresh.to_replace &= {
        member.machine.id for member in group.members.values() if not member.is_terminating
    }
    old = [fact for fact in facts if fact.instance_id in refresh.to_replace]
    new = [fact for fact in facts if fact.instance_id not in refresh.to_replace]
    settled_new = sum(1 for fact in new if fact.settled)
    if not old:
        if settled_new >= group.desired:
            _finish(world, group, refresh, "Successful")
        return
    if any(fact.leaving for fact in old) or not all(fact.settled for fact in new):
        return
    _replace(world, group, refresh, old, settled_new)


def _replace(world: World, group: Group, refresh: Refresh, old: list[Fact], settled_new: int) -> None:
    settled_old = sum(1 for fact in old if fact.settled)
    candidates = sorted((f for f in old if not f.protected), key=lambda f: (f.settled, f.launched_at))
    first, at_once = refresh_step(
        group.desired, settled_new, settled_old, len(candidates), refresh.min_healthy, refresh.max_healthy
    )
    for fact in candidates[:first]:
        group.members[fact.instance_id].leaving = "refresh"
    for fact in candidates[first : first + at_once]:
        members.begin_terminate(world, group, group.members[fact.instance_id], activities.REFRESH)


def cancel(world: World, group: Group) -> Refresh:
    refresh = group.refresh()
    if refresh is None:
        raise AutoscalingClientError(
            "ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found."
        )
    for member in group.members.values():
        if member.leaving == "refresh":
            member.leaving = None
    refresh.reason = "Cancelled due to user request."
    _finish(world, group, refresh, "Cancelled")
    return refresh


def warmup_seconds(group: Group) -> float:
    """Seconds of AWS that a new member must have served, while a refresh goes on, to count as settled."""
    refresh = group.refresh()
    return refresh.warmup_seconds if refresh else 0.0


def _make(world: World, group: Group, preferences: dict[str, Any]) -> Refresh:
    maintenance = getattr(group.moto, "instance_maintenance_policy", None) or {}
    grace = group.moto.health_check_grace_period or 0
    warmup = getattr(group.moto, "default_instance_warmup", None)
    to_replace = _to_replace(group, str(preferences.get("SkipMatching")).lower() == "true")
    return Refresh(
        refresh_id=str(uuid.uuid4()),
        started_at=world.clock(),
        min_healthy=_first(
            preferences.get("MinHealthyPercentage"),
            maintenance.get("MinHealthyPercentage"),
            _DEFAULT_MIN_HEALTHY,
        ),
        max_healthy=_first(
            preferences.get("MaxHealthyPercentage"),
            maintenance.get("MaxHealthyPercentage"),
            _DEFAULT_MAX_HEALTHY,
        ),
        warmup_seconds=float(_first(preferences.get("InstanceWarmup"), warmup, int(grace))),
        to_replace=to_replace,
        total=len(to_replace),
        preferences=preferences,
    )


def _to_replace(group: Group, skip_matching: bool) -> set[str]:
    version = version_of(group.moto)
    current = str(version.number) if version else None
    return {
        member.machine.id
        for member in group.members.values()
        if not member.is_terminating and not (skip_matching and member.template_version == current)
    }


def _first(*values: Any) -> int:
    # A policy is cleared by -1.
    return next(int(value) for value in values if value is not None and int(value) >= 0)


def _configure(world: World, moto: FakeAutoScalingGroup, wanted: Mapping[str, Any]) -> None:
    before = dict(vars(moto))
    template, policy = wanted.get("LaunchTemplate") or {}, wanted.get("MixedInstancesPolicy")
    moto.update(
        availability_zones=[],
        desired_capacity=moto.desired_capacity,
        max_size=None,
        min_size=None,
        launch_config_name="",
        launch_template=template,
        vpc_zone_identifier="",
        health_check_period=moto.health_check_grace_period or 0,
        health_check_type=moto.health_check_type,
        mixed_instances_policy=policy,
    )
    try:
        require_launchable(world, moto)
    except AutoscalingClientError:
        vars(moto).update(before)
        raise


def _require_rollback(moto: FakeAutoScalingGroup, configuration: Any) -> None:
    """AWS can only roll back to what is pinned."""
    version = str(moto.launch_template_version)
    image = str(moto.image_id)
    if not configuration or version.startswith("$") or image.startswith("resolve:ssm:"):
        raise ValidationError(
            "Auto rollback requires a desired configuration whose launch template names a version number, "
            "neither $Latest nor $Default, and an image id that is no Systems Manager parameter."
        )


def _finish(world: World, group: Group, refresh: Refresh, status: str) -> None:
    refresh.status, refresh.ended_at = status, world.clock()
    world.tell(f"refresh.{status.lower()}", None, group.name)


def _shown(group: Group, refresh: Refresh) -> dict[str, Any]:
    left = len(refresh.to_replace) if refresh.status != "Successful" else 0
    shown: dict[str, Any] = {
        "InstanceRefreshId": refresh.refresh_id,
        "AutoScalingGroupName": group.name,
        "Status": refresh.status,
        "StartTime": utc(refresh.started_at),
        "PercentageComplete": 100 if not refresh.total else 100 * (refresh.total - left) // refresh.total,
        "InstancesToUpdate": left,
        "Preferences": refresh.preferences,
    }
    if refresh.reason is not None:
        shown["StatusReason"] = refresh.reason
    if refresh.ended_at is not None:
        shown["EndTime"] = utc(refresh.ended_at)
    return shown


def install(world: World, patches: Patches) -> None:
    def start_instance_refresh(self: AutoScalingResponse) -> ActionResult:
        wanted = self._get_params()
        refresh = start(world, groups.find(world, wanted["AutoScalingGroupName"]), wanted)
        return ActionResult({"InstanceRefreshId": refresh.refresh_id})

    def describe_instance_refreshes(self: AutoScalingResponse) -> ActionResult:
        group = groups.find(world, self._get_param("AutoScalingGroupName"))
        wanted = self._get_param("InstanceRefreshIds", [])
        found = [r for r in group.refreshes if not wanted or r.refresh_id in wanted]
        return ActionResult({"InstanceRefreshes": [_shown(group, refresh) for refresh in found]})

    def cancel_instance_refresh(self: AutoScalingResponse) -> ActionResult:
        refresh = cancel(world, groups.find(world, self._get_param("AutoScalingGroupName")))
        return ActionResult({"InstanceRefreshId": refresh.refresh_id})

    for action in (start_instance_refresh, describe_instance_refreshes, cancel_instance_refresh):
        patches.set(AutoScalingResponse, action.__name__, action)
