"""Auto Scaling groups, their policies, hooks and schedules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want
from fleet.rehearsal.resources.policy_shapes import policy_arguments
from fleet.rehearsal.resources.refresh import refresh_arguments, refresh_if_due
from fleet.rehearsal.resources.shapes import UNKNOWN, fit
from fleet.rehearsal.resources.warmpool import put_warm_pool, warm_pool_arguments

_GONE_SECONDS = 600.0
_CAPACITY_SECONDS = 600.0

# Members of UpdateAutoScalingGroup that carry over one to one.
_IN_PLACE = {
    "availabilityZoneDistribution": None,
    "capacityRebalance": False,
    "defaultCooldown": 300,
    "defaultInstanceWarmup": -1,
    "desiredCapacity": REQUIRED,
    "desiredCapacityType": "units",
    "healthCheckGracePeriod": 300,
    "healthCheckType": "EC2",
    "instanceMaintenancePolicy": {"minHealthyPercentage": -1, "maxHealthyPercentage": -1},
    "launchTemplate": None,
    "maxInstanceLifetime": 0,
    "maxSize": REQUIRED,
    "minSize": REQUIRED,
    "mixedInstancesPolicy": None,
    "protectFromScaleIn": False,
    "serviceLinkedRoleArn": REQUIRED,
    "terminationPolicies": ["Default"],
    "vpcZoneIdentifiers": REQUIRED,
}
# What this side of the wire does with them: nothing is sent to AWS.
_LOCAL = {
    "forceDelete": False,
    "forceDeleteWarmPool": False,
    "ignoreFailedScalingActivities": False,
    "instanceRefresh": None,
    "waitForCapacityTimeout": "10m",
}


class Group(Handler):
    """Its instances end with it: destroying forces, and waits until they are gone."""

    type = "aws:autoscaling/group:Group"
    create = "autoscaling.CreateAutoScalingGroup"
    name_argument = "name"
    members: ClassVar[Mapping[str, str]] = {
        "initialLifecycleHooks": "LifecycleHookSpecificationList",
        "protectFromScaleIn": "NewInstancesProtectedFromScaleIn",
        "vpcZoneIdentifiers": "VPCZoneIdentifier",
    }
    settled = frozenset({"enabledMetrics", "metricsGranularity", "suspendedProcesses", "warmPool", *_LOCAL})
    updates: ClassVar[Mapping[str, Any]] = {
        **_IN_PLACE,
        **_LOCAL,
        "enabledMetrics": [],
        "metricsGranularity": "1Minute",
        "suspendedProcesses": [],
        "tags": [],
        "targetGroupArns": [],
        "warmPool": None,
    }

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        super().check(aws, inputs)
        refresh_arguments(aws, inputs.get("instanceRefresh"))
        warm_pool_arguments(aws, inputs.get("warmPool"))

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        subnets = shaped.get("VPCZoneIdentifier")
        if isinstance(subnets, list):
            shaped["VPCZoneIdentifier"] = UNKNOWN if UNKNOWN in subnets else ",".join(subnets)
        hooks = shaped.get("LifecycleHookSpecificationList")
        if isinstance(hooks, list):
            shaped["LifecycleHookSpecificationList"] = [_hook(hook) for hook in hooks]
        launch = shaped.pop("launchTemplate", None)
        return shaped if launch is None else {**shaped, "LaunchTemplate": template_of(launch)}

    def find(self, aws: Aws, want: Want) -> str | None:
        return want.physical if self._described(aws, want.physical) else None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        if "Tags" in request:
            request["Tags"] = [{**tag, **_of_group(want.physical)} for tag in request["Tags"]]
        aws.call(self.create, AutoScalingGroupName=want.physical, **request)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        self._update(aws, identity, want, changed)
        if "targetGroupArns" in changed:
            self._attach(aws, identity, want)
        if "tags" in changed:
            self._retag(aws, identity, want)
        self._settle_extras(aws, identity, want, changed)
        if "warmPool" in changed:
            put_warm_pool(aws, identity, want.get("warmPool"))
        if want.before:
            refresh_if_due(aws, identity, want, changed)
        if not want.before or set(changed) & {"desiredCapacity", "minSize", "waitForCapacityTimeout"}:
            self._await_capacity(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        group = self._described(aws, identity)[0]
        return {"arn": group["AutoScalingGroupARN"], "name": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        groups = self._described(aws, identity)
        instances = [item["InstanceId"] for group in groups for item in group["Instances"]]
        aws.call("autoscaling.DeleteAutoScalingGroup", AutoScalingGroupName=identity, ForceDelete=True)
        aws.wait(f"group {identity} gone", lambda: not self._described(aws, identity), _GONE_SECONDS)
        if instances:
            aws.wait(f"instances of {identity} terminated", lambda: _all_ended(aws, instances), _GONE_SECONDS)

    def _update(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        """Only what changed: sizes that scaling policies have moved stay where they are."""
        touched = set(changed) & set(_IN_PLACE)
        values = {key: want.get(key, _IN_PLACE[key]) for key in touched}
        arguments = {
            key: value for key, value in values.items() if value is not None and value is not REQUIRED
        }
        if arguments:
            operation = "autoscaling.UpdateAutoScalingGroup"
            request = self.fitted(aws, operation, self.shaped(arguments))
            aws.call(operation, AutoScalingGroupName=identity, **request)

    def _attach(self, aws: Aws, identity: str, want: Want) -> None:
        now, group = set(want.get("targetGroupArns", ())), self._described(aws, identity)[0]
        there = set(group.get("TargetGroupARNs", ()))
        named = {"AutoScalingGroupName": identity}
        if now - there:
            aws.call(
                "autoscaling.AttachLoadBalancerTargetGroups", **named, TargetGroupARNs=sorted(now - there)
            )
        if there - now:
            aws.call(
                "autoscaling.DetachLoadBalancerTargetGroups", **named, TargetGroupARNs=sorted(there - now)
            )

    def _retag(self, aws: Aws, identity: str, want: Want) -> None:
        now, before = want.get("tags", []), want.before.get("tags") or []
        kept = {tag["key"] for tag in now}
        shape = aws.shape("autoscaling.CreateOrUpdateTags")
        if now:
            tags = [{**tag, **_of_group(identity)} for tag in now]
            aws.call("autoscaling.CreateOrUpdateTags", **fit(shape, {"Tags": tags}, ""))
        dropped = [{"Key": tag["key"], **_of_group(identity)} for tag in before if tag["key"] not in kept]
        if dropped:
            aws.call("autoscaling.DeleteTags", Tags=dropped)

    def _settle_extras(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        named = {"AutoScalingGroupName": identity}
        if set(changed) & {"enabledMetrics", "metricsGranularity"}:
            granularity = want.get("metricsGranularity", "1Minute")
            metrics, before = want.get("enabledMetrics", []), want.before.get("enabledMetrics") or []
            if metrics:
                aws.call(
                    "autoscaling.EnableMetricsCollection", **named, Metrics=metrics, Granularity=granularity
                )
            if dropped := sorted(set(before) - set(metrics)):
                aws.call("autoscaling.DisableMetricsCollection", **named, Metrics=dropped)
        if "suspendedProcesses" in changed:
            now, before = want.get("suspendedProcesses", []), want.before.get("suspendedProcesses") or []
            if now:
                aws.call("autoscaling.SuspendProcesses", **named, ScalingProcesses=now)
            if resumed := sorted(set(before) - set(now)):
                aws.call("autoscaling.ResumeProcesses", **named, ScalingProcesses=resumed)

    def _await_capacity(self, aws: Aws, identity: str, want: Want) -> None:
        """pulumi-aws waits for the least size, or for the desired one where the program gives it."""
        seconds = _seconds(want.get("waitForCapacityTimeout", _LOCAL["waitForCapacityTimeout"]))
        if seconds == 0:
            return
        wanted = int(want.get("desiredCapacity") or want.get("minSize", 0))

        def reached() -> bool:
            groups = self._described(aws, identity)
            states = [item["LifecycleState"] for group in groups for item in group["Instances"]]
            return states.count("InService") >= wanted

        aws.wait(f"{wanted} instances of {identity} in service", reached, seconds)

    def _described(self, aws: Aws, identity: str) -> list[dict[str, Any]]:
        answer = aws.call("autoscaling.DescribeAutoScalingGroups", AutoScalingGroupNames=[identity])
        return list(answer["AutoScalingGroups"])


def template_of(arguments: Any) -> Any:
    """A group names its template by `id`, a mixed policy by `launchTemplateId`; AWS by the latter."""
    if arguments is UNKNOWN:
        return UNKNOWN
    names = {"id": "LaunchTemplateId", "name": "LaunchTemplateName"}
    return {names.get(key, key): value for key, value in arguments.items()}


def _hook(arguments: Any) -> Any:
    if arguments is UNKNOWN:
        return UNKNOWN
    return {"LifecycleHookName" if key == "name" else key: value for key, value in arguments.items()}


def _of_group(name: str) -> dict[str, str]:
    return {"ResourceId": name, "ResourceType": "auto-scaling-group"}


def _all_ended(aws: Aws, instances: list[str]) -> bool:
    """By a filter: asking for an id that AWS has forgotten is an error."""
    filters = [{"Name": "instance-id", "Values": instances}]
    reservations = aws.call("ec2.DescribeInstances", Filters=filters)["Reservations"]
    states = {item["State"]["Name"] for reservation in reservations for item in reservation["Instances"]}
    return states <= {"terminated"}


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(duration: str) -> float:
    """`10m` as pulumi-aws writes durations; `0` waits for nothing."""
    unit = duration[-1:]
    return float(duration[:-1]) * _UNITS[unit] if unit in _UNITS else float(duration)


class Policy(Handler):
    """Putting a policy replaces all of it, and is repeatable."""

    type = "aws:autoscaling/policy:Policy"
    create = "autoscaling.PutScalingPolicy"
    name_argument = "name"
    updates: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        (
            "adjustmentType",
            "cooldown",
            "enabled",
            "estimatedInstanceWarmup",
            "metricAggregationType",
            "minAdjustmentMagnitude",
            "policyType",
            "predictiveScalingConfiguration",
            "scalingAdjustment",
            "stepAdjustments",
            "targetTrackingConfiguration",
        )
    )

    def key(self, want: Want) -> str:
        return f"{want.inputs['autoscalingGroupName']} {want.physical}"

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return super().shaped(policy_arguments(inputs))

    def find(self, aws: Aws, want: Want) -> str | None:
        return want.physical if self._described(aws, want) else None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, PolicyName=want.physical, **request)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        return {"arn": self._described(aws, want)[0]["PolicyARN"], "name": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        group = want.inputs["autoscalingGroupName"]
        aws.call("autoscaling.DeletePolicy", AutoScalingGroupName=group, PolicyName=identity)

    def _described(self, aws: Aws, want: Want) -> list[dict[str, Any]]:
        group = want.inputs["autoscalingGroupName"]
        request = {"AutoScalingGroupName": group, "PolicyNames": [want.physical]}
        return list(aws.call("autoscaling.DescribePolicies", **request)["ScalingPolicies"])


class LifecycleHook(Handler):
    """Putting a hook is repeatable."""

    type = "aws:autoscaling/lifecycleHook:LifecycleHook"
    create = "autoscaling.PutLifecycleHook"
    name_argument = "name"
    updates: ClassVar[Mapping[str, Any]] = {
        "defaultResult": "ABANDON",
        "heartbeatTimeout": 3600,
        "lifecycleTransition": REQUIRED,
        "notificationMetadata": None,
        "notificationTargetArn": None,
        "roleArn": None,
    }

    def key(self, want: Want) -> str:
        return f"{want.inputs['autoscalingGroupName']} {want.physical}"

    def find(self, aws: Aws, want: Want) -> str | None:
        group = want.inputs["autoscalingGroupName"]
        hooks = aws.call("autoscaling.DescribeLifecycleHooks", AutoScalingGroupName=group)["LifecycleHooks"]
        return want.physical if want.physical in [hook["LifecycleHookName"] for hook in hooks] else None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, LifecycleHookName=want.physical, **request)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, want
        return {"name": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        named = {"AutoScalingGroupName": want.inputs["autoscalingGroupName"], "LifecycleHookName": identity}
        aws.call("autoscaling.DeleteLifecycleHook", **named)


HANDLERS: tuple[Handler, ...] = (Group(), Policy(), LifecycleHook())
