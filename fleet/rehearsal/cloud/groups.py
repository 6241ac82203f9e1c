"""Auto Scaling groups as AWS creates, updates, resizes and deletes them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from fleet.rehearsal.cloud import hooks, members
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group
from fleet.rehearsal.cloud.requirements import require_overrides
from fleet.rehearsal.cloud.template import require_launchable
from fleet.rehearsal.cloud.world import World

# Fields that moto drops on create, on update, or on both, with the attribute that its serializer reads.
_KEPT = {
    "DefaultInstanceWarmup": "default_instance_warmup",
    "MaxInstanceLifetime": "max_instance_lifetime",
    "InstanceMaintenancePolicy": "instance_maintenance_policy",
    "DesiredCapacityType": "desired_capacity_type",
    "AvailabilityZoneDistribution": "availability_zone_distribution",
    "TerminationPolicies": "termination_policies",
    "CapacityRebalance": "capacity_rebalance",
    "DefaultCooldown": "default_cooldown",
}
_INTEGERS = ("DefaultInstanceWarmup", "MaxInstanceLifetime", "DefaultCooldown")
_SPOT_STRATEGIES = (
    "lowest-price",
    "capacity-optimized",
    "capacity-optimized-prioritized",
    "price-capacity-optimized",
)
_ON_DEMAND_STRATEGIES = ("prioritized", "lowest-price")


def find(world: World, name: str | None) -> Group:
    """The group; raises AWS's ValidationError."""
    if name is None or name not in world.groups:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return world.groups[name]


def set_desired(world: World, group: Group, desired: int, cause: str) -> None:
    """Change the desired capacity; the next look at the group does the rest."""
    if desired != group.desired:
        group.cause = cause
        group.moto.desired_capacity = desired
        group.retry_at.clear()
        world.tell("group.desired", None, group.name, desired=str(desired), cause=cause)


def require_in_bounds(group: Group, desired: int) -> None:
    """Raise AWS's ValidationError for a desired capacity outside the group's bounds."""
    maximum, minimum = int(group.moto.max_size or 0), int(group.moto.min_size or 0)
    said = f"New SetDesiredCapacity value {desired} is"
    if desired > maximum:
        raise ValidationError(f"{said} above max value {maximum} for the AutoScalingGroup.")
    if desired < minimum:
        raise ValidationError(f"{said} below min value {minimum} for the AutoScalingGroup.")


def require_room_below(group: Group, count: int) -> None:
    """Raise AWS's ValidationError where taking `count` off the desired capacity breaks the minimum."""
    minimum = int(group.moto.min_size or 0)
    if group.desired - count < minimum:
        raise ValidationError(
            f"Currently, desiredSize equals minSize ({minimum}). Terminating instance without replacement "
            "will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to "
            "false or lower group's min size."
        )


def _require_sizes(minimum: int, maximum: int, desired: int | None) -> None:
    if minimum > maximum:
        raise ValidationError("Max bound must be greater than or equal to min bound")
    if desired is not None and not minimum <= desired <= maximum:
        raise ValidationError(
            f"Desired capacity:{desired} must be between the specified min size:{minimum} and max "
            f"size:{maximum}"
        )


def _require_subnets(world: World, identifiers: str | None) -> None:
    for subnet in (identifiers or "").split(","):
        name = subnet.strip()
        if name and not any(name in by_zone for by_zone in world.ec2.subnets.values()):
            raise ValidationError(f"The subnet ID '{name}' does not exist")


def _require_target_groups(world: World, arns: list[str]) -> None:
    if any(arn not in world.elbv2.target_groups for arn in arns):
        raise ValidationError(
            "Provided Target Groups may not be valid. Please ensure they exist and try again."
        )


def _require_policy(policy: Mapping[str, Any] | None) -> None:
    distribution = (policy or {}).get("InstancesDistribution") or {}
    spot, on_demand = (
        distribution.get("SpotAllocationStrategy"),
        distribution.get("OnDemandAllocationStrategy"),
    )
    if spot is not None and spot not in _SPOT_STRATEGIES:
        raise ValidationError(f"Invalid value '{spot}' for SpotAllocationStrategy.")
    if on_demand is not None and on_demand not in _ON_DEMAND_STRATEGIES:
        raise ValidationError(f"Invalid value '{on_demand}' for OnDemandAllocationStrategy.")
    percentage = distribution.get("OnDemandPercentageAboveBaseCapacity")
    if percentage is not None and not 0 <= int(percentage) <= 100:
        raise ValidationError(f"OnDemandPercentageAboveBaseCapacity {percentage} must be from 0 to 100.")
    overrides = ((policy or {}).get("LaunchTemplate") or {}).get("Overrides") or []
    require_overrides(overrides, on_demand)


def _keep_fields(group: FakeAutoScalingGroup, wanted: Mapping[str, Any]) -> None:
    for field, attribute in _KEPT.items():
        if wanted.get(field) is not None:
            value = int(wanted[field]) if field in _INTEGERS else wanted[field]
            setattr(group, attribute, _as_bool(value) if field == "CapacityRebalance" else value)


def _as_bool(value: Any) -> bool:
    return str(value).lower() == "true"


def merged_policy(kept: dict[str, Any] | None, wanted: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The mixed-instances policy after an update: what it does not name stays."""
    if kept is None or not wanted:
        return copy.deepcopy(dict(wanted)) if wanted else kept
    merged = copy.deepcopy(kept)
    for key, value in wanted.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = merged_policy(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _name_once(policy: dict[str, Any] | None) -> dict[str, Any] | None:
    """Moto stores a template's id and its name, then refuses to be given both."""
    if policy is None:
        return None
    policy = copy.deepcopy(policy)
    specification = (policy.get("LaunchTemplate") or {}).get("LaunchTemplateSpecification") or {}
    if specification.get("LaunchTemplateId"):
        specification.pop("LaunchTemplateName", None)
    return policy


def _policy_after(
    group: FakeAutoScalingGroup, wanted: Mapping[str, Any] | None, replaced: bool
) -> dict[str, Any] | None:
    if replaced and not wanted:
        return None
    return _name_once(merged_policy(group.mixed_instances_policy, wanted))


def create(world: World, wanted: Mapping[str, Any], make: Any) -> None:
    """Create a group; `make` is moto's own creation."""
    name = wanted["AutoScalingGroupName"]
    if name in world.groups:
        raise AutoscalingClientError(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
        )
    desired = wanted.get("DesiredCapacity")
    _require_sizes(int(wanted["MinSize"]), int(wanted["MaxSize"]), None if desired is None else int(desired))
    if not wanted.get("VPCZoneIdentifier"):
        raise ValidationError("The emulated cloud launches into subnets only: give VPCZoneIdentifier.")
    _require_subnets(world, wanted.get("VPCZoneIdentifier"))
    _require_target_groups(world, wanted.get("TargetGroupARNs") or [])
    _require_policy(wanted.get("MixedInstancesPolicy"))
    make()
    _finish_create(world, name, wanted)


def _finish_create(world: World, name: str, wanted: Mapping[str, Any]) -> None:
    moto = world.autoscaling.autoscaling_groups[name]
    try:
        require_launchable(world, moto)
        for hook in wanted.get("LifecycleHookSpecificationList") or []:
            hooks.put(world, name, dict(hook))
    except AutoscalingClientError:
        del world.autoscaling.autoscaling_groups[name]
        _forget_hooks(world, name)
        raise
    _keep_fields(moto, wanted)
    group = Group(moto)
    group.cause = "a user request created an AutoScalingGroup"
    world.groups[name] = group
    world.tell("group.created", None, name, desired=str(group.desired))


def update(world: World, group: Group, wanted: Mapping[str, Any], make: Any) -> None:
    """Update a group; `make` is moto's own update, given the whole mixed policy that results."""
    moto = group.moto
    minimum = int(wanted["MinSize"]) if wanted.get("MinSize") is not None else int(moto.min_size or 0)
    maximum = int(wanted["MaxSize"]) if wanted.get("MaxSize") is not None else int(moto.max_size or 0)
    desired = wanted.get("DesiredCapacity")
    _require_sizes(minimum, maximum, None if desired is None else int(desired))
    _require_subnets(world, wanted.get("VPCZoneIdentifier"))
    _require_policy(wanted.get("MixedInstancesPolicy"))
    _require_no_rollout(group, wanted)
    before = dict(vars(moto))
    make()
    try:
        require_launchable(world, moto)
    except AutoscalingClientError:
        vars(moto).update(before)
        raise
    _keep_fields(moto, wanted)
    moto.desired_capacity = before["desired_capacity"]
    now_desired = min(max(group.desired, minimum), maximum) if desired is None else int(desired)
    set_desired(world, group, now_desired, "a user request update of AutoScalingGroup constraints")


def _require_no_rollout(group: Group, wanted: Mapping[str, Any]) -> None:
    refresh = group.refresh()
    launches = ("LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy")
    if refresh is not None and refresh.configured and any(wanted.get(name) for name in launches):
        raise ValidationError(
            "An active instance refresh with a desired configuration exists. All configuration options "
            "derived from the desired configuration are not available for update while the instance refresh "
            "is active."
        )


def delete(world: World, group: Group, force: bool) -> None:
    """Delete a group; with `force` its instances end at once, hooks or not."""
    if group.members and not force:
        raise AutoscalingClientError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances still in the group.",
        )
    for waiting in group.warm.values():
        if waiting.machine.terminated_at is None:
            world.ec2.terminate_instances([waiting.machine.id])
    group.warm.clear()
    for member in list(group.members.values()):
        members.leave(group, member)
        member.machine.lifecycle_state = "Terminated"
        if member.machine.terminated_at is None:
            world.ec2.terminate_instances([member.machine.id])
        world.elbv2.notify_terminate_instances([member.machine.id])
    del world.groups[group.name]
    world.autoscaling.autoscaling_groups.pop(group.name, None)
    _forget_hooks(world, group.name)
    for key in [k for k, policy in world.autoscaling.policies.items() if _is_of(policy, group.name)]:
        del world.autoscaling.policies[key]
    actions = world.autoscaling.scheduled_actions
    for key in [k for k, action in actions.items() if _is_of(action, group.name)]:
        del actions[key]
    world.tell("group.deleted", None, group.name)


def _is_of(policy: Any, group_name: str) -> bool:
    return bool(policy.auto_scaling_group_name == group_name)


def _forget_hooks(world: World, group_name: str) -> None:
    for hook in world.autoscaling.describe_lifecycle_hooks(group_name):
        world.autoscaling.delete_lifecycle_hook(group_name, str(hook.name))


def install(world: World, patches: Patches) -> None:
    """Group calls of the API in AWS's semantics; moto still stores and describes."""
    _install_create(world, patches)
    _install_update(world, patches)
    _install_sizes(world, patches)
    _install_activities(world, patches)
    _install_target_groups(world, patches)
    patches.set(AutoScalingBackend, "notify_terminate_instances", lambda _self, _ids: None)


def _install_create(world: World, patches: Patches) -> None:
    def make_create(original: Any) -> Any:
        def create_auto_scaling_group(self: AutoScalingResponse) -> ActionResult:
            create(world, self._get_params(), lambda: original(self))
            return EmptyResult()

        return create_auto_scaling_group

    def delete_auto_scaling_group(self: AutoScalingResponse) -> ActionResult:
        group = find(world, self._get_param("AutoScalingGroupName"))
        delete(world, group, bool(self._get_bool_param("ForceDelete", False)))
        return EmptyResult()

    patches.wrap(AutoScalingResponse, "create_auto_scaling_group", make_create)
    patches.set(AutoScalingResponse, "delete_auto_scaling_group", delete_auto_scaling_group)


def _install_update(world: World, patches: Patches) -> None:
    def make_update(original: Any) -> Any:
        def update_auto_scaling_group(self: AutoScalingResponse) -> ActionResult:
            group = find(world, self._get_param("AutoScalingGroupName"))
            update(world, group, self._get_params(), lambda: original(self))
            return EmptyResult()

        return update_auto_scaling_group

    def make_group_update(original: Any) -> Any:
        def update_model(
            self: FakeAutoScalingGroup, *args: Any, mixed_instances_policy: Any = None, **kwargs: Any
        ) -> None:
            replaced = bool(kwargs.get("launch_template") or kwargs.get("launch_config_name"))
            policy = _policy_after(self, mixed_instances_policy, replaced)
            original(self, *args, mixed_instances_policy=policy, **kwargs)

        return update_model

    patches.wrap(AutoScalingResponse, "update_auto_scaling_group", make_update)
    patches.wrap(FakeAutoScalingGroup, "update", make_group_update)


def _install_sizes(world: World, patches: Patches) -> None:
    def set_model_desired(self: FakeAutoScalingGroup, new_capacity: int | None) -> None:
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity

    def set_desired_capacity(self: AutoScalingResponse) -> ActionResult:
        group = find(world, self._get_param("AutoScalingGroupName"))
        desired = int(self._get_int_param("DesiredCapacity") or 0)
        require_in_bounds(group, desired)
        set_desired(world, group, desired, "a user request explicitly set group desired capacity")
        return EmptyResult()

    patches.set(FakeAutoScalingGroup, "set_desired_capacity", set_model_desired)
    patches.set(AutoScalingResponse, "set_desired_capacity", set_desired_capacity)


def _install_activities(world: World, patches: Patches) -> None:
    def describe_scaling_activities(self: AutoScalingResponse) -> ActionResult:
        name, wanted = self._get_param("AutoScalingGroupName"), self._get_param("ActivityIds", [])
        shown = [find(world, name)] if name else list(world.groups.values())
        found = [a for group in shown for a in group.activities if not wanted or a.activity_id in wanted]
        return ActionResult({"Activities": found[: self._get_int_param("MaxRecords", 100)]})

    patches.set(AutoScalingResponse, "describe_scaling_activities", describe_scaling_activities)


def _install_target_groups(world: World, patches: Patches) -> None:
    def register_members(_self: AutoScalingBackend, group_name: str) -> None:
        group = world.groups.get(group_name)
        for member in group.members.values() if group else ():
            if group is not None and member.in_service:
                members.register(world, group, member)

    def make_attach(original: Any) -> Any:
        def attach(self: AutoScalingBackend, group_name: str, target_group_arns: list[str]) -> None:
            find(world, group_name)
            _require_target_groups(world, target_group_arns)
            original(self, group_name, target_group_arns)

        return attach

    patches.set(AutoScalingBackend, "update_attached_target_groups", register_members)
    patches.wrap(AutoScalingBackend, "attach_load_balancer_target_groups", make_attach)
