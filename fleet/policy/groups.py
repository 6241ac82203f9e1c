"""Rules for Auto Scaling groups and their target groups: spot, drain, scaling, rollout."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.policy.kinds import GROUP, HOOK, ROLLOUT, TARGET_GROUP
from fleet.policy.model import Resource, Stack, Values, rule, whole_rule

_TYPES = 3
_ZONES = 3
# A spot notice gives 120 s, and a group deregisters its instance before it calls the terminate hook.
_DEREGISTRATION_SECONDS = 90
_HOOK_SECONDS = range(30, 121)
_LEAST_HEALTHY_PERCENT = 90
_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"

_DISTRIBUTION = ("mixedInstancesPolicy", "instancesDistribution")
_TEMPLATE = ("mixedInstancesPolicy", "launchTemplate")


@rule(
    "A group launches a template's version by its number, and is rolled out to one.",
    "Give the template's latestVersion: $Latest boots what no up has rolled out, and AWS rolls none back.",
    [GROUP, ROLLOUT],
)
def template_version_pinned(of: Resource) -> Iterator[str]:
    wanted = ("configuration",) if of.type == ROLLOUT else ()
    mixed = of.given.get(*wanted, *_TEMPLATE, "launchTemplateSpecification", "version")
    version = of.given.get("launchTemplate", "version") if mixed is None else mixed
    if not str(version).isdecimal():
        yield f"the template's version is {version}"


@rule(
    "Spot capacity comes from the pools least likely to be reclaimed.",
    "Set instancesDistribution.spotAllocationStrategy to price-capacity-optimized, not lowest-price.",
    [GROUP],
)
def spot_allocation(of: Resource) -> Iterator[str]:
    strategy = of.given.get(*_DISTRIBUTION, "spotAllocationStrategy")
    if _spot(of.given) and strategy != "price-capacity-optimized":
        yield f"spotAllocationStrategy is {strategy}"


@rule(
    "A spot instance at risk is replaced before its notice comes.",
    "Set capacityRebalance to true.",
    [GROUP],
)
def capacity_rebalance(of: Resource) -> Iterator[str]:
    if _spot(of.given) and not of.given.true("capacityRebalance"):
        yield "capacityRebalance is not true"


@rule(
    f"Spot draws on at least {_TYPES} instance types.",
    "Add types to purchase.instanceTypes, or ask for attributes in place of types.",
    [GROUP],
    level="advisory",
)
def spot_types(of: Resource) -> Iterator[str]:
    overrides = of.given.each(*_TEMPLATE, "overrides")
    types = {override.get("instanceType") for override in overrides if override.has("instanceType")}
    by_attributes = any(override.has("instanceRequirements") for override in overrides)
    if _spot(of.given) and not by_attributes and len(types) < _TYPES:
        yield f"it has {len(types)}"


@rule(
    f"Spot draws on at least {_ZONES} availability zones.",
    f"Set network.zones to {_ZONES} or more.",
    [GROUP],
    level="advisory",
)
def spot_zones(of: Resource) -> Iterator[str]:
    zones = max(of.given.count("vpcZoneIdentifiers"), of.given.count("availabilityZones"))
    if _spot(of.given) and zones < _ZONES:
        yield f"it has {zones}"


@rule(
    f"Connections to a node that leaves end within {_DEREGISTRATION_SECONDS} s.",
    f"Set deregistrationDelay to {_DEREGISTRATION_SECONDS} or less: a spot notice gives 120 s.",
    [TARGET_GROUP],
)
def deregistration_delay(of: Resource) -> Iterator[str]:
    seconds = of.given.get("deregistrationDelay")
    if seconds is None or float(seconds) > _DEREGISTRATION_SECONDS:
        yield f"deregistrationDelay is {seconds}"


@whole_rule(
    f"A node drains for {_HOOK_SECONDS[0]} to {_HOOK_SECONDS[-1]} s before its group terminates it.",
    "Add a hook on autoscaling:EC2_INSTANCE_TERMINATING with such a heartbeatTimeout.",
    [GROUP],
)
def terminate_hook(of: Resource, stack: Stack) -> Iterator[str]:
    apart = [hook.given for hook in stack.pointing("autoscalingGroupName", of, HOOK)]
    hooks = [h for h in (*of.given.each("initialLifecycleHooks"), *apart) if _on_termination(h)]
    if not hooks:
        yield "it has no terminate hook"
    for hook in hooks:
        seconds = hook.get("heartbeatTimeout")
        if seconds is None or int(seconds) not in _HOOK_SECONDS:
            yield f"the hook's heartbeatTimeout is {seconds}"


@rule(
    "Scaling does not count a node before it has warmed up.",
    "Set defaultInstanceWarmup to the image's boot time.",
    [GROUP],
)
def instance_warmup(of: Resource) -> Iterator[str]:
    warmup = of.given.get("defaultInstanceWarmup")
    if warmup is None or warmup < 0:
        yield "defaultInstanceWarmup is not set"


@rule(
    "A group replaces nodes that its balancer finds unhealthy.",
    "Set healthCheckType to ELB; EC2 sees only whether the machine runs.",
    [GROUP],
)
def balancer_health(of: Resource) -> Iterator[str]:
    kind = of.given.get("healthCheckType")
    if of.given.has("targetGroupArns") and kind != "ELB":
        yield f"healthCheckType is {kind}"


@whole_rule(
    f"A rollout keeps {_LEAST_HEALTHY_PERCENT} % of a group healthy and rolls back by itself.",
    "Let a Rollout have the group's name, with autoRollback, a maxHealthyPercentage, a minHealthyPercentage "
    f"of {_LEAST_HEALTHY_PERCENT} or more, and checkpoints that end at 100. The group's own instanceRefresh "
    "rolls back to what it has just rolled out: pulumi-aws saves that on the group first.",
    [GROUP],
)
def rollout_is_safe(of: Resource, stack: Stack) -> Iterator[str]:
    if of.given.has("instanceRefresh"):
        yield "it has instanceRefresh, which cannot roll back"
    rollouts = stack.pointing("group", of, ROLLOUT)
    if not rollouts:
        yield "it has no Rollout, so that a new template reaches only new nodes"
    for rollout in rollouts:
        yield from _unsafe(Values(rollout.given.get("preferences") or {}))


@rule(
    "A rollout watches alarms, and goes on watching once all nodes are new.",
    "Set rollout.watchAlarms to true, and rollout.bakeSeconds above 0: nothing else sends an image back that "
    "boots and serves badly, or that never gets ready, before AWS's hour is over.",
    [ROLLOUT],
    level="advisory",
)
def rollout_watched(of: Resource) -> Iterator[str]:
    preferences = Values(of.given.get("preferences") or {})
    if not preferences.get("alarmSpecification", "alarms"):
        yield "preferences.alarmSpecification is not set"
    if not preferences.get("bakeTime"):
        yield "preferences.bakeTime is not set"


def _unsafe(preferences: Values) -> Iterator[str]:
    if not preferences.true("autoRollback"):
        yield "preferences.autoRollback is not true"
    least = preferences.get("minHealthyPercentage")
    if least is not None and least < _LEAST_HEALTHY_PERCENT:
        yield f"preferences.minHealthyPercentage is {least}"
    if not preferences.has("maxHealthyPercentage"):
        yield "preferences.maxHealthyPercentage is not set, so that AWS may go below the minimum"
    checkpoints = preferences.get("checkpointPercentages") or [100]
    if checkpoints[-1] != 100:
        yield f"preferences.checkpointPercentages ends at {checkpoints[-1]}"


def _spot(given: Values) -> bool:
    """AWS's default for the share above the base is 100 % on demand."""
    if not given.has("mixedInstancesPolicy"):
        return False
    share = given.get(*_DISTRIBUTION, "onDemandPercentageAboveBaseCapacity")
    return share is not None and int(share) < 100


def _on_termination(hook: Values) -> bool:
    return bool(hook.get("lifecycleTransition") == _TERMINATING)


RULES = (
    template_version_pinned,
    spot_allocation,
    capacity_rebalance,
    spot_types,
    spot_zones,
    deregistration_delay,
    terminate_hook,
    instance_warmup,
    balancer_health,
    rollout_is_safe,
    rollout_watched,
)
