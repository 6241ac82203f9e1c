"""The calls about instance refreshes, of which moto has none."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.responses import ActionResult

from fleet.rehearsal.cloud import groups, pace, refreshing
from fleet.rehearsal.cloud.pace import Healthy
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group, Refresh
from fleet.rehearsal.cloud.refreshing import step as step
from fleet.rehearsal.cloud.template import require_launchable, version_of
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World, utc

_LAUNCHED_FROM = (
    "ec2_launch_template",
    "launch_template_version",
    "mixed_instances_policy",
    "provided_launch_template_version",
)
_MOST_ALARMS = 10


def start(world: World, group: Group, wanted: Mapping[str, Any]) -> Refresh:
    """Begin a refresh towards the group's template, or towards the `DesiredConfiguration` given.

    The group itself is left alone until the refresh has succeeded: what it says until then is what a
    rollback goes back to ("Undo changes with a manual or auto rollback", Auto Scaling user guide).
    """
    if group.refresh() is not None:
        raise AutoscalingClientError(
            "InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the request."
        )
    preferences = dict(wanted.get("Preferences") or {})
    _require_preferences(preferences)
    configuration = wanted.get("DesiredConfiguration")
    _require_named_types(group.moto, preferences, configuration)
    configured = _configured(world, group.moto, configuration) if configuration else {}
    if _is_true(preferences.get("AutoRollback")):
        _require_rollback(group.moto, configured)
    refresh = _make(world, group, preferences, configured)
    refresh.configuration = configuration
    group.refreshes.insert(0, refresh)
    refresh.to_replace = _to_replace(group, refresh)
    refresh.total = len(refresh.to_replace)
    world.tell("refresh.started", None, group.name, instances=str(refresh.total))
    return refresh


def cancel(world: World, group: Group, *, wait: bool) -> Refresh:
    """What is in flight ends first, unless nobody waits for it."""
    refresh = _running(group)
    refresh.reason, refresh.status = "Cancelled due to user request.", "Cancelling"
    if not wait:
        refreshing.stay(group)
        refresh.status, refresh.ended_at = "Cancelled", world.clock()
    return refresh


def roll_back(world: World, group: Group) -> Refresh:
    refresh = _running(group)
    if not refresh.configured or refresh.status in ("Cancelling", "RollbackInProgress"):
        raise AutoscalingClientError(
            "IrreversibleInstanceRefresh",
            "The instance refresh cannot be rolled back: it has no desired configuration, or is being "
            "cancelled or rolled back already.",
        )
    refreshing.begin_rollback(world, group, refresh, "Manual rollback was started.")
    return refresh


def warmup_seconds(group: Group) -> float:
    """Seconds of AWS that a new member must have served, while a refresh goes on, to count as settled."""
    refresh = group.refresh()
    return refresh.warmup_seconds if refresh else 0.0


def _running(group: Group) -> Refresh:
    refresh = group.refresh()
    if refresh is None:
        raise AutoscalingClientError(
            "ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found."
        )
    return refresh


def _make(world: World, group: Group, preferences: dict[str, Any], configured: dict[str, Any]) -> Refresh:
    maintenance = getattr(group.moto, "instance_maintenance_policy", None) or {}
    most = _given(preferences.get("MaxHealthyPercentage"), maintenance.get("MaxHealthyPercentage"))
    least = _given(preferences.get("MinHealthyPercentage"), maintenance.get("MinHealthyPercentage"))
    warmup = _given(
        preferences.get("InstanceWarmup"),
        getattr(group.moto, "default_instance_warmup", None),
        int(group.moto.health_check_grace_period or 0),
    )
    return Refresh(
        refresh_id=str(uuid.uuid4()),
        started_at=world.clock(),
        healthy=Healthy(pace.DEFAULT_MIN_HEALTHY if least is None else least, most),
        warmup_seconds=float(warmup or 0),
        preferences=preferences,
        progressed_at=world.clock(),
        configured=configured,
        before={member.machine.id for member in group.members.values()},
    )


def _to_replace(group: Group, refresh: Refresh) -> set[str]:
    version = version_of(group.launching)
    current = str(version.number) if version else None
    skip = _is_true(refresh.preferences.get("SkipMatching"))
    return {
        member.machine.id
        for member in group.members.values()
        if not member.is_terminating
        and member.phase != "Standby"
        and not (skip and member.template_version == current)
        and not (refresh.protected == "Ignore" and member.state.protected_from_scale_in)
    }


def _given(*values: Any) -> int | None:
    # A policy is cleared by -1.
    return next((int(value) for value in values if value is not None and int(value) >= 0), None)


def _configured(world: World, moto: FakeAutoScalingGroup, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the group would have, of what it launches from. Raises AWS's ValidationError."""
    shown = copy.copy(moto)
    shown.update(
        availability_zones=[],
        desired_capacity=moto.desired_capacity,
        max_size=None,
        min_size=None,
        launch_config_name="",
        launch_template=wanted.get("LaunchTemplate") or {},
        vpc_zone_identifier="",
        health_check_period=moto.health_check_grace_period or 0,
        health_check_type=moto.health_check_type,
        mixed_instances_policy=wanted.get("MixedInstancesPolicy"),
    )
    require_launchable(world, shown)
    return {name: vars(shown)[name] for name in _LAUNCHED_FROM if name in vars(shown)}


def _require_preferences(preferences: Mapping[str, Any]) -> None:
    least, most = preferences.get("MinHealthyPercentage"), preferences.get("MaxHealthyPercentage")
    if most is not None and least is None:
        raise ValidationError("MaxHealthyPercentage needs MinHealthyPercentage.")
    if most is not None and (not 100 <= int(most) <= 200 or int(most) - int(least or 0) > 100):
        raise ValidationError("MaxHealthyPercentage is 100 to 200, at most 100 above MinHealthyPercentage.")
    percentages = [int(percent) for percent in preferences.get("CheckpointPercentages") or ()]
    if percentages != sorted(set(percentages)) or not all(1 <= percent <= 100 for percent in percentages):
        raise ValidationError("CheckpointPercentages are 1 to 100, unique and in ascending order.")
    if preferences.get("CheckpointDelay") is not None and not percentages:
        raise ValidationError("CheckpointDelay needs CheckpointPercentages.")
    alarms = (preferences.get("AlarmSpecification") or {}).get("Alarms") or []
    unknown = sorted(set(alarms) - set(cloudwatch_backends[ACCOUNT][REGION].alarms))
    if unknown or len(alarms) > _MOST_ALARMS:
        raise ValidationError(
            f"AlarmSpecification holds up to 10 alarms that exist; not {unknown or alarms}."
        )


def _require_named_types(
    moto: FakeAutoScalingGroup, preferences: Mapping[str, Any], configuration: Mapping[str, Any] | None
) -> None:
    """See "How an instance refresh works", Limitations (Auto Scaling user guide)."""
    policies = (moto.mixed_instances_policy, (configuration or {}).get("MixedInstancesPolicy"))
    overrides = [o for p in policies for o in ((p or {}).get("LaunchTemplate") or {}).get("Overrides") or []]
    asked = configuration or _is_true(preferences.get("SkipMatching"))
    if asked and any(override.get("InstanceRequirements") for override in overrides):
        raise ValidationError(
            "A group with InstanceRequirements supports neither SkipMatching nor DesiredConfiguration."
        )


def _require_rollback(moto: FakeAutoScalingGroup, configured: Mapping[str, Any]) -> None:
    """AWS can only roll back to what is pinned."""
    if not configured:
        raise ValidationError(
            "The AutoRollback parameter cannot be set to true when the DesiredConfiguration parameter is "
            "empty. Set AutoRollback to false or specify a desired configuration and try again."
        )
    versions = (str(moto.launch_template_version), str(configured.get("launch_template_version")))
    if any(version.startswith("$") for version in versions) or str(moto.image_id).startswith("resolve:ssm:"):
        raise ValidationError(
            "Auto rollback requires launch templates by a version number, neither $Latest nor $Default, and "
            "an image id that is no Systems Manager parameter."
        )


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def _shown(group: Group, refresh: Refresh) -> dict[str, Any]:
    left = max(0, refresh.total - refresh.settled)
    rollback = refresh.rollback
    shown: dict[str, Any] = {
        "InstanceRefreshId": refresh.refresh_id,
        "AutoScalingGroupName": group.name,
        "Status": refresh.status,
        "StatusReason": refresh.reason,
        "StartTime": utc(refresh.started_at),
        "EndTime": utc(refresh.ended_at) if refresh.ended_at is not None else None,
        "PercentageComplete": refresh.percent,
        "InstancesToUpdate": rollback.left if rollback else left,
        "Preferences": refresh.preferences,
        "DesiredConfiguration": refresh.configuration,
        "Strategy": "Rolling",
    }
    if rollback is not None:
        shown["RollbackDetails"] = {
            "RollbackReason": rollback.reason,
            "RollbackStartTime": utc(rollback.started_at),
            "PercentageCompleteOnRollback": rollback.percent,
            "InstancesToUpdateOnRollback": rollback.left,
        }
    return {key: value for key, value in shown.items() if value is not None}


def install(world: World, patches: Patches) -> None:
    def named(self: AutoScalingResponse) -> Group:
        return groups.find(world, self._get_param("AutoScalingGroupName"))

    def start_instance_refresh(self: AutoScalingResponse) -> ActionResult:
        wanted = self._get_params()
        refresh = start(world, named(self), wanted)
        return ActionResult({"InstanceRefreshId": refresh.refresh_id})

    def describe_instance_refreshes(self: AutoScalingResponse) -> ActionResult:
        group = named(self)
        wanted = self._get_param("InstanceRefreshIds", [])
        found = [r for r in group.refreshes if not wanted or r.refresh_id in wanted]
        most = self._get_int_param("MaxRecords", 50)
        return ActionResult({"InstanceRefreshes": [_shown(group, refresh) for refresh in found[:most]]})

    def cancel_instance_refresh(self: AutoScalingResponse) -> ActionResult:
        wait = bool(self._get_bool_param("WaitForTransitioningInstances", True))
        return ActionResult({"InstanceRefreshId": cancel(world, named(self), wait=wait).refresh_id})

    def rollback_instance_refresh(self: AutoScalingResponse) -> ActionResult:
        return ActionResult({"InstanceRefreshId": roll_back(world, named(self)).refresh_id})

    actions = (
        start_instance_refresh,
        describe_instance_refreshes,
        cancel_instance_refresh,
        rollback_instance_refresh,
    )
    for action in actions:
        patches.set(AutoScalingResponse, action.__name__, action)
