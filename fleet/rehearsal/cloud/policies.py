"""Scaling policies: kept a group each, and target tracking that acts on what the metrics say."""

from __future__ import annotations

import uuid
from datetime import timedelta
from statistics import fmean
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeScalingPolicy
from moto.autoscaling.responses import AutoScalingResponse
from moto.cloudwatch.models import MetricDatum, cloudwatch_backends
from moto.core.responses import ActionResult, EmptyResult

from fleet.rehearsal.cloud import groups
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.records import Group, Member
from fleet.rehearsal.cloud.tracking import Breach, Decision, Policy, Sizes, decide, observe
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World, utc

_CUSTOM_METRIC_SECONDS = 60.0
_PERIOD_SLACK = 1.25
_KNOWN_METRICS = ("ASGAverageCPUUtilization", "ALBRequestCountPerTarget")


def track(world: World, group: Group) -> None:
    """Let the group's target-tracking policies set its desired capacity."""
    now = world.clock()
    tracked = {p.name: p for p in world.autoscaling.policies.values() if _tracks(p, group)}
    policies = [_policy(policy) for policy in tracked.values()]
    if not policies:
        return
    warm = _warm(world, group, max(_warmup(group, policy) for policy in tracked.values()))
    values = {name: _value(world, warm, _configuration(policy)) for name, policy in tracked.items()}
    group.breaches = {
        p.name: observe(group.breaches.get(p.name, Breach()), p, values[p.name], now) for p in policies
    }
    decision = decide(policies, values, group.breaches, _sizes(group, warm), now, world.time_scale)
    _follow(world, group, decision)


def _follow(world: World, group: Group, decision: Decision) -> None:
    """Note the decision where it is news, and obey it."""
    last = group.decisions[-1] if group.decisions else None
    changes = decision.after != decision.before
    if changes or last is None or (last.why, last.policy) != (decision.why, decision.policy):
        group.decisions.append(decision)
    if changes:
        group.breaches.clear()
        world.tell(
            "tracking.decided",
            None,
            group.name,
            policy=decision.policy,
            metric=decision.metric,
            value="-" if decision.value is None else f"{decision.value:.4g}",
            target=f"{decision.target:g}",
            before=str(decision.before),
            after=str(decision.after),
            why=decision.why,
        )
        groups.set_desired(world, group, decision.after, f"a monitor alarm of policy {decision.policy}")


def _tracks(policy: FakeScalingPolicy, group: Group) -> bool:
    return (
        policy.auto_scaling_group_name == group.name
        and policy.policy_type == "TargetTrackingScaling"
        and bool(getattr(policy, "enabled", True))
    )


def _configuration(policy: FakeScalingPolicy) -> dict[str, Any]:
    return dict(vars(policy.target_tracking_configuration))


def _policy(policy: FakeScalingPolicy) -> Policy:
    wanted = _configuration(policy)
    custom = wanted.get("CustomizedMetricSpecification") or {}
    predefined = wanted.get("PredefinedMetricSpecification") or {}
    return Policy(
        str(policy.name),
        float(wanted["TargetValue"]),
        str(wanted.get("DisableScaleIn")).lower() == "true",
        _period(custom),
        str(custom.get("MetricName") or predefined.get("PredefinedMetricType") or ""),
    )


def _period(custom: dict[str, Any]) -> float:
    """In AWS's seconds."""
    return float(custom.get("Period") or _CUSTOM_METRIC_SECONDS)


def _value(world: World, warm: list[Member], wanted: dict[str, Any]) -> float | None:
    predefined = wanted.get("PredefinedMetricSpecification")
    if not predefined:
        return _custom(world, wanted.get("CustomizedMetricSpecification") or {})
    if predefined["PredefinedMetricType"] == "ASGAverageCPUUtilization":
        known = [v for member in warm if (v := world.metrics.cpu(member.machine.id)) is not None]
        return fmean(known) if known else None
    suffix = str(predefined["ResourceLabel"]).partition("/targetgroup/")[2]
    arn = next((a for a in world.elbv2.target_groups if a.endswith(f":targetgroup/{suffix}")), None)
    return world.metrics.requests_per_target(arn) if arn else None


def _custom(world: World, wanted: dict[str, Any]) -> float | None:
    """The average of what PutMetricData gave for the metric in its last period, and a little more: each node
    puts one value a period, give or take a tenth.
    """
    if not world.metrics.with_published:
        return None
    dimensions = {(d["Name"], d["Value"]) for d in wanted.get("Dimensions") or []}
    after = utc(world.clock()) - timedelta(seconds=world.scaled(_period(wanted)) * _PERIOD_SLACK)
    values = [
        float(datum.value)
        for datum in cloudwatch_backends[ACCOUNT][REGION].metric_data
        if isinstance(datum, MetricDatum)
        and (datum.namespace, datum.name) == (wanted.get("Namespace"), wanted.get("MetricName"))
        and datum.timestamp.replace(tzinfo=None) >= after
        and {(d.name, d.value) for d in datum.dimensions} == dimensions
    ]
    return fmean(values) if values else None


def _warm(world: World, group: Group, warmup: float) -> list[Member]:
    """Members in service whose warmup is over: what they measure counts."""
    ready_before = world.clock() - world.scaled(warmup)
    return [m for m in group.members.values() if m.in_service and _served_since(m) <= ready_before]


def _sizes(group: Group, warm: list[Member]) -> Sizes:
    serving = [member for member in group.members.values() if member.in_service or member.is_pending]
    units = sum(member.weight for member in warm)
    return Sizes(
        group.desired,
        int(group.moto.min_size or 0),
        int(group.moto.max_size or 0),
        units,
        sum(member.weight for member in serving) - units,
    )


def _served_since(member: Member) -> float:
    return member.in_service_at if member.in_service_at is not None else float("inf")


def _warmup(group: Group, policy: FakeScalingPolicy) -> float:
    """Seconds of AWS."""
    given: Any = policy.estimated_instance_warmup
    if given in (None, ""):
        given = getattr(group.moto, "default_instance_warmup", None)
    return float(group.moto.default_cooldown if given is None else given)


def _require_forecast(wanted: Any) -> None:
    """A forecast is kept and never made: it would need two weeks. Its form is checked as AWS does."""
    specifications = (wanted or {}).get("MetricSpecifications") or []
    if len(specifications) != 1:
        raise ValidationError("A predictive scaling policy must have exactly one metric specification.")
    kinds = {key for key in specifications[0] if key != "TargetValue"}
    pair = {"PredefinedMetricPairSpecification"}
    halves = [
        {f"{how}{what}MetricSpecification" for how in ("Customized", "Predefined")}
        for what in ("Load", "Scaling")
    ]
    apart = all(len(kinds & half) == 1 for half in halves) and not kinds & pair
    if kinds != pair and not apart:
        raise ValidationError("Specify a metric pair, or a load metric and a scaling metric.")
    label = specifications[0].get("PredefinedMetricPairSpecification") or {}
    if label.get("PredefinedMetricType") == "ALBRequestCount" and not label.get("ResourceLabel"):
        raise ValidationError("Resource label must be specified for the ALBRequestCount metric pair.")


def _require(asked: dict[str, Any]) -> None:
    if asked.get("policy_type") == "PredictiveScaling":
        _require_forecast(asked.get("predictive_scaling_configuration"))
    wanted = asked.get("target_tracking_config") or {}
    _require_custom(wanted.get("CustomizedMetricSpecification") or {})
    predefined = wanted.get("PredefinedMetricSpecification")
    if not predefined:
        return
    kind = predefined["PredefinedMetricType"]
    if kind not in _KNOWN_METRICS:
        raise ValidationError(f"The emulated cloud has no predefined metric {kind}.")
    if kind == "ALBRequestCountPerTarget" and not predefined.get("ResourceLabel"):
        raise ValidationError(
            "Resource label must be specified for the ALBRequestCountPerTarget predefined metric type."
        )


def _require_custom(wanted: dict[str, Any]) -> None:
    if wanted.get("Metrics"):
        raise ValidationError("The emulated cloud has no metric math in a CustomizedMetricSpecification.")
    if int(_period(wanted)) not in (10, 30, 60):
        raise ValidationError("Period of a CustomizedMetricSpecification must be one of 10, 30, 60.")
    if wanted and wanted.get("Statistic") != "Average":
        raise ValidationError("The emulated cloud has no statistic but Average for a tracked metric.")


def _alarms(policy: FakeScalingPolicy) -> list[dict[str, str]]:
    if policy.policy_type != "TargetTrackingScaling":
        return []
    names = [
        f"TargetTracking-{policy.auto_scaling_group_name}-Alarm{side}-{uuid.uuid4()}"
        for side in ("High", "Low")
    ]
    return [
        {"AlarmName": name, "AlarmARN": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"}
        for name in names
    ]


def install(world: World, patches: Patches) -> None:
    """Policies keyed by group and name, checked, with the alarms that AWS makes for them."""

    def make_put(original: Any) -> Any:
        def put_scaling_policy(
            self: AutoScalingBackend, name: str, *args: Any, **kwargs: Any
        ) -> FakeScalingPolicy:
            group = groups.find(world, kwargs["as_name"])
            _require(kwargs)
            other = self.policies.pop(name, None)
            policy: FakeScalingPolicy = original(self, name, *args, **kwargs)
            self.policies.pop(name)
            if other is not None:
                self.policies[name] = other
            key = f"{group.name}/{name}"
            policy.alarms = getattr(self.policies.get(key), "alarms", None) or _alarms(policy)  # type: ignore[attr-defined]
            policy.enabled = True  # type: ignore[attr-defined]
            if not policy.predictive_scaling_configuration:
                policy.predictive_scaling_configuration = None  # type: ignore[assignment]
            self.policies[key] = policy
            return policy

        return put_scaling_policy

    def make_put_action(original: Any) -> Any:
        def put_scaling_policy(self: AutoScalingResponse) -> ActionResult:
            original(self)
            policy = world.autoscaling.policies[
                f"{self._get_param('AutoScalingGroupName')}/{self._get_param('PolicyName')}"
            ]
            return ActionResult({"PolicyARN": policy.arn, "Alarms": policy.alarms})  # type: ignore[attr-defined]

        return put_scaling_policy

    def delete_policy(self: AutoScalingResponse) -> ActionResult:
        name, group = self._get_param("PolicyName"), self._get_param("AutoScalingGroupName")
        for key, policy in list(self.autoscaling_backend.policies.items()):
            if name in (policy.name, policy.arn) and group in (None, policy.auto_scaling_group_name):
                del self.autoscaling_backend.policies[key]
        return EmptyResult()

    patches.wrap(AutoScalingBackend, "put_scaling_policy", make_put)
    patches.wrap(AutoScalingResponse, "put_scaling_policy", make_put_action)
    patches.set(AutoScalingResponse, "delete_policy", delete_policy)
