"""Rules for what makes a group grow and shrink."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.policy.kinds import GROUP, HOOK, SCALING_POLICY, SCHEDULE
from fleet.policy.model import Resource, Stack, Values, rule, whole_rule

_LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"


@whole_rule(
    "A group that may grow has a policy or a schedule that makes it grow.",
    "Add a target-tracking policy, or set max to min.",
    [GROUP],
)
def group_scales(of: Resource, stack: Stack) -> Iterator[str]:
    may_grow = of.given.get("minSize") != of.given.get("maxSize")
    if may_grow and not stack.pointing("autoscalingGroupName", of, SCALING_POLICY, SCHEDULE):
        yield "nothing scales it"


@rule(
    "Scaling by requests per target names the balancer and target group that are counted.",
    "Set resourceLabel to <balancer arnSuffix>/<target group arnSuffix>.",
    [SCALING_POLICY],
)
def request_count_label(of: Resource) -> Iterator[str]:
    path = ("targetTrackingConfiguration", "predefinedMetricSpecification")
    metric = of.given.get(*path) or {}
    if metric.get("predefinedMetricType") == "ALBRequestCountPerTarget" and not metric.get("resourceLabel"):
        yield "ALBRequestCountPerTarget has no resourceLabel"


@rule(
    "A metric that is tracked falls when nodes are added.",
    "Track the Average of what each node publishes: a Sum or a queue's length stays, and the group grows to "
    "its max.",
    [SCALING_POLICY],
)
def tracked_metric_falls(of: Resource) -> Iterator[str]:
    metric = of.given.get("targetTrackingConfiguration", "customizedMetricSpecification")
    if metric is None or Values(metric).has("metrics"):
        return
    if (statistic := Values(metric).get("statistic")) != "Average":
        yield f"its statistic is {statistic}"


@rule(
    "A forecast does not raise a group's max, which bounds the bill.",
    "Set maxCapacityBreachBehavior to HonorMaxCapacity.",
    [SCALING_POLICY],
)
def forecast_keeps_max(of: Resource) -> Iterator[str]:
    behaviour = of.given.get("predictiveScalingConfiguration", "maxCapacityBreachBehavior")
    if behaviour not in (None, "HonorMaxCapacity"):
        yield f"maxCapacityBreachBehavior is {behaviour}"


@whole_rule(
    "Nodes of a warm pool wait only once they are ready.",
    "Add a hook on autoscaling:EC2_INSTANCE_LAUNCHING: without one AWS stops a node in the middle of its "
    "first boot.",
    [GROUP],
)
def pool_is_ready(of: Resource, stack: Stack) -> Iterator[str]:
    if not of.given.has("warmPool"):
        return
    apart = [hook.given for hook in stack.pointing("autoscalingGroupName", of, HOOK)]
    hooks = (*of.given.each("initialLifecycleHooks"), *apart)
    if not any(hook.get("lifecycleTransition") == _LAUNCHING for hook in hooks):
        yield "it has a warm pool and no launch hook"


RULES = (group_scales, request_count_label, tracked_metric_falls, forecast_keeps_max, pool_is_ready)
