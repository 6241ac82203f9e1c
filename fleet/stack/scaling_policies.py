"""What makes a group grow and shrink: a policy for each target, its schedules, its forecast.

Several target-tracking policies may act on one group, each on its own metric: it grows if any of them wants
it, and shrinks only if all of them do (Auto Scaling guide, "Target tracking scaling policies").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi_aws.autoscaling import (
    PolicyPredictiveScalingConfigurationArgs,
    PolicyPredictiveScalingConfigurationMetricSpecificationArgs,
    PolicyPredictiveScalingConfigurationMetricSpecificationCustomizedLoadMetricSpecificationArgs,
    PolicyPredictiveScalingConfigurationMetricSpecificationCustomizedScalingMetricSpecificationArgs,
    PolicyPredictiveScalingConfigurationMetricSpecificationPredefinedMetricPairSpecificationArgs,
    PolicyTargetTrackingConfigurationArgs,
    PolicyTargetTrackingConfigurationCustomizedMetricSpecificationArgs,
    PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricDimensionArgs,
    PolicyTargetTrackingConfigurationPredefinedMetricSpecificationArgs,
)

from fleet.stack import scaling
from fleet.stack.edge import Edge
from fleet.stack.settings_scaling import ModelScaling, Schedule
from fleet.stack.settings_tier import GatewayTier, ModelTier

_UNTOUCHED = -1
"""What pulumi-aws writes for a size that a scheduled action leaves alone; 0 would be a size."""

_STANDARD_SECONDS = 60
_MODES = {"forecast-only": "ForecastOnly", "forecast-and-scale": "ForecastAndScale"}

_Predicted = PolicyPredictiveScalingConfigurationMetricSpecificationArgs
_Pair = PolicyPredictiveScalingConfigurationMetricSpecificationPredefinedMetricPairSpecificationArgs
_Load = PolicyPredictiveScalingConfigurationMetricSpecificationCustomizedLoadMetricSpecificationArgs
_Scaling = PolicyPredictiveScalingConfigurationMetricSpecificationCustomizedScalingMetricSpecificationArgs
_Custom = PolicyTargetTrackingConfigurationCustomizedMetricSpecificationArgs
_Dimension = PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricDimensionArgs
_Predefined = PolicyTargetTrackingConfigurationPredefinedMetricSpecificationArgs


@dataclass(frozen=True)
class Scaled:
    """A group, and what its policies look at."""

    stack: str
    tier: GatewayTier | ModelTier
    name: str
    """Logical name of the group."""
    group: aws.autoscaling.Group
    edge: Edge
    opts: pulumi.ResourceOptions


def scale(of: Scaled) -> None:
    """Make all that scales the group."""
    for part, target in _targets(of):
        aws.autoscaling.Policy(
            f"{of.name}-{part}",
            autoscaling_group_name=of.group.name,
            policy_type="TargetTrackingScaling",
            target_tracking_configuration=target,
            opts=_after_listeners(of) if part == "requests" else of.opts,
        )
    for schedule in of.tier.scaling.schedules:
        _schedule(of, schedule)
    if of.tier.scaling.predictive is not None:
        _predict(of)


def published_by(tier: ModelTier) -> dict[str, pulumi.Input[str]]:
    """What nodes are told so that they publish what their tier is scaled by."""
    wanted = tier.scaling
    if wanted.in_flight_per_node is None:
        return {}
    seconds = wanted.in_flight_seconds
    often = {} if seconds == _STANDARD_SECONDS else {"scaling_metric_seconds": str(seconds)}
    return {"scaling_metric": "on", **often}


def _targets(of: Scaled) -> Iterator[tuple[str, PolicyTargetTrackingConfigurationArgs]]:
    wanted = of.tier.scaling
    if wanted.cpu_target_percent is not None:
        metric = _Predefined(predefined_metric_type="ASGAverageCPUUtilization")
        yield "cpu", _target(of, wanted.cpu_target_percent, predefined_metric_specification=metric)
    if isinstance(wanted, ModelScaling):
        if wanted.in_flight_per_node is not None:
            yield (
                "in-flight",
                _target(
                    of, wanted.in_flight_per_node, customized_metric_specification=_in_flight(of, wanted)
                ),
            )
    elif (per_target := _requests(of)) is not None:
        metric = _Predefined(
            predefined_metric_type="ALBRequestCountPerTarget", resource_label=of.edge.request_count_label
        )
        yield "requests", _target(of, per_target, predefined_metric_specification=metric)


def _target(of: Scaled, value: float, **metric: Any) -> PolicyTargetTrackingConfigurationArgs:
    only_out = None if of.tier.scaling.scale_in else True
    return PolicyTargetTrackingConfigurationArgs(target_value=value, disable_scale_in=only_out, **metric)


def _requests(of: Scaled) -> int | None:
    """Only gateways: a model tier's balancer carries no requests but health checks."""
    return of.tier.scaling.requests_per_target if isinstance(of.tier, GatewayTier) else None


def _in_flight(of: Scaled, wanted: ModelScaling) -> _Custom:
    """The average of what each node publishes of itself: it falls as nodes are added, as AWS wants it
    ("the value of the metric should decrease when capacity increases", API, CustomizedMetricSpecification).
    """
    high_resolution = wanted.in_flight_seconds < _STANDARD_SECONDS
    return _Custom(
        namespace=scaling.NAMESPACE,
        metric_name=scaling.METRIC,
        metric_dimensions=[_Dimension(name=k, value=v) for k, v in _dimensions(of).items()],
        statistic="Average",
        unit="Count",
        period=wanted.in_flight_seconds if high_resolution else None,
    )


def _dimensions(of: Scaled) -> dict[str, str]:
    return {scaling.STACK_DIMENSION: of.stack, scaling.TIER_DIMENSION: of.tier.name}


def _schedule(of: Scaled, schedule: Schedule) -> None:
    def size(asked: int | None) -> int:
        return _UNTOUCHED if asked is None else asked

    aws.autoscaling.Schedule(
        f"{of.name}-{schedule.name}",
        autoscaling_group_name=of.group.name,
        scheduled_action_name=schedule.name,
        recurrence=schedule.cron,
        time_zone=schedule.time_zone,
        min_size=size(schedule.min),
        desired_capacity=size(schedule.desired),
        max_size=size(schedule.max),
        opts=of.opts,
    )


def _predict(of: Scaled) -> None:
    forecast = of.tier.scaling.predictive
    assert forecast is not None
    aws.autoscaling.Policy(
        f"{of.name}-forecast",
        autoscaling_group_name=of.group.name,
        policy_type="PredictiveScaling",
        predictive_scaling_configuration=PolicyPredictiveScalingConfigurationArgs(
            mode=_MODES[forecast.mode],
            scheduling_buffer_time=str(forecast.ahead_seconds),
            # A forecast must not raise the tier's max, which bounds the bill.
            max_capacity_breach_behavior="HonorMaxCapacity",
            metric_specification=_predicted(of, forecast.metric),
        ),
        opts=_after_listeners(of) if forecast.metric == "requests" else of.opts,
    )


def _predicted(of: Scaled, metric: str) -> _Predicted:
    """The metric's load, which is forecast, and its average, which has the target."""
    wanted = of.tier.scaling
    if metric == "cpu":
        assert wanted.cpu_target_percent is not None
        pair = _Pair(predefined_metric_type="ASGCPUUtilization")
        return _Predicted(target_value=wanted.cpu_target_percent, predefined_metric_pair_specification=pair)
    if metric == "requests":
        per_target = _requests(of)
        assert per_target is not None
        label = of.edge.request_count_label
        pair = _Pair(predefined_metric_type="ALBRequestCount", resource_label=label)
        return _Predicted(target_value=per_target, predefined_metric_pair_specification=pair)
    assert isinstance(wanted, ModelScaling)
    assert wanted.in_flight_per_node is not None
    return _Predicted(
        target_value=wanted.in_flight_per_node,
        customized_load_metric_specification=_Load(metric_data_queries=[_query(of, "load", "Sum")]),
        customized_scaling_metric_specification=_Scaling(
            metric_data_queries=[_query(of, "scaling", "Average")]
        ),
    )


def _query(of: Scaled, name: str, statistic: str) -> Any:
    return {
        "id": name,
        "return_data": True,
        "metric_stat": {
            "stat": statistic,
            "metric": {
                "namespace": scaling.NAMESPACE,
                "metric_name": scaling.METRIC,
                "dimensions": [{"name": k, "value": v} for k, v in _dimensions(of).items()],
            },
        },
    }


def _after_listeners(of: Scaled) -> pulumi.ResourceOptions:
    """AWS refuses a target group that hangs on no balancer yet."""
    return pulumi.ResourceOptions.merge(of.opts, pulumi.ResourceOptions(depends_on=of.edge.listeners))
