"""Load balancers, target groups, listeners and their rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.actions import action, condition
from fleet.rehearsal.resources.attributes import Attribute, attribute_list, attributes_of
from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list
from fleet.rehearsal.resources.shapes import UNKNOWN

_NAME_LIMIT = 32
_BALANCER_SECONDS = 600.0


class _Balancing(Handler):
    """`listed` finds it by name; its ARN is its id."""

    listed: ClassVar[tuple[str, str, str]]
    """The operation that lists, the member of its answer, and the member that holds the ARN."""
    destroy: ClassVar[tuple[str, str]]

    def make(self, aws: Aws, want: Want) -> str:
        request = self.request(aws, want)
        answer = aws.call(self.create, **request)
        return str(answer[self.listed[1]][0][self.listed[2]])

    def request(self, aws: Aws, want: Want) -> dict[str, Any]:
        return {**self.fitted(aws, self.create, self.shaped(want.inputs)), "Name": want.physical}

    def find(self, aws: Aws, want: Want) -> str | None:
        operation, many, arn = self.listed
        try:
            found = aws.call(operation, Names=[want.physical])[many]
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return next((str(item[arn]) for item in found), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "tags" in changed:
            _retag(aws, identity, want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        operation, member = self.destroy
        aws.call(operation, **{member: identity})


TARGET_GROUP_ATTRIBUTES = {
    "deregistrationDelay": Attribute("deregistration_delay.timeout_seconds", 300),
    "slowStart": Attribute("slow_start.duration_seconds", 0),
    "loadBalancingAlgorithmType": Attribute("load_balancing.algorithm.type", "round_robin"),
    "loadBalancingAnomalyMitigation": Attribute("load_balancing.algorithm.anomaly_mitigation", "off"),
    "loadBalancingCrossZoneEnabled": Attribute(
        "load_balancing.cross_zone.enabled", "use_load_balancer_configuration"
    ),
    "stickiness.enabled": Attribute("stickiness.enabled", False),
    "stickiness.type": Attribute("stickiness.type", "lb_cookie"),
    "stickiness.cookieDuration": Attribute("stickiness.lb_cookie.duration_seconds", 86400),
}

# Argument of the health check -> member of the request, and what AWS takes where it is absent.
_HEALTH_CHECK: Mapping[str, tuple[str, Any]] = {
    "enabled": ("HealthCheckEnabled", True),
    "path": ("HealthCheckPath", "/"),
    "port": ("HealthCheckPort", "traffic-port"),
    "protocol": ("HealthCheckProtocol", "HTTP"),
    "interval": ("HealthCheckIntervalSeconds", 30),
    "timeout": ("HealthCheckTimeoutSeconds", 5),
    "healthyThreshold": ("HealthyThresholdCount", 5),
    "unhealthyThreshold": ("UnhealthyThresholdCount", 2),
    "matcher": ("Matcher", "200"),
}


class TargetGroup(_Balancing):
    type = "aws:lb/targetGroup:TargetGroup"
    create = "elbv2.CreateTargetGroup"
    listed = ("elbv2.DescribeTargetGroups", "TargetGroups", "TargetGroupArn")
    destroy = ("elbv2.DeleteTargetGroup", "TargetGroupArn")
    name_argument = "name"
    name_limit = _NAME_LIMIT
    settled = frozenset({key.partition(".")[0] for key in TARGET_GROUP_ATTRIBUTES})
    updates: ClassVar[Mapping[str, Any]] = {"healthCheck": {}, "stickiness": {}, "tags": {}} | {
        key: attribute.default for key, attribute in TARGET_GROUP_ATTRIBUTES.items() if "." not in key
    }

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        super().check(aws, inputs)
        attributes_of(TARGET_GROUP_ATTRIBUTES, inputs, self.settled & set(inputs))

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        checked = shaped.pop("healthCheck", None)
        return shaped if checked is None else {**shaped, **_health_check(checked)}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        values = attributes_of(TARGET_GROUP_ATTRIBUTES, want.inputs, changed)
        if values:
            request = attribute_list(values)
            aws.call("elbv2.ModifyTargetGroupAttributes", TargetGroupArn=identity, Attributes=request)
        if "healthCheck" in changed:
            full = {key: default for key, (_, default) in _HEALTH_CHECK.items()} | want.get("healthCheck", {})
            modified = self.fitted(aws, "elbv2.ModifyTargetGroup", _health_check(full))
            aws.call("elbv2.ModifyTargetGroup", TargetGroupArn=identity, **modified)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws
        return {"arn": identity, "arnSuffix": identity.rpartition(":")[2], "name": want.physical}


def _health_check(arguments: Any) -> dict[str, Any]:
    if arguments is UNKNOWN:
        return {}
    shaped = {}
    for key, value in arguments.items():
        member, _ = _HEALTH_CHECK.get(key, (f"healthCheck.{key}", None))
        shaped[member] = {"HttpCode": value} if key == "matcher" else value
    return shaped


LOAD_BALANCER_ATTRIBUTES = {
    "idleTimeout": Attribute("idle_timeout.timeout_seconds", 60),
    "clientKeepAlive": Attribute("client_keep_alive.seconds", 3600),
    "desyncMitigationMode": Attribute("routing.http.desync_mitigation_mode", "defensive"),
    "dropInvalidHeaderFields": Attribute("routing.http.drop_invalid_header_fields.enabled", False),
    "enableDeletionProtection": Attribute("deletion_protection.enabled", False),
    "enableHttp2": Attribute("routing.http2.enabled", True),
    "enableWafFailOpen": Attribute("waf.fail_open.enabled", False),
    "enableZonalShift": Attribute("zonal_shift.config.enabled", False),
    "enableXffClientPort": Attribute("routing.http.xff_client_port.enabled", False),
    "preserveHostHeader": Attribute("routing.http.preserve_host_header.enabled", False),
    "xffHeaderProcessingMode": Attribute("routing.http.xff_header_processing.mode", "append"),
    "accessLogs.enabled": Attribute("access_logs.s3.enabled", False),
    "accessLogs.bucket": Attribute("access_logs.s3.bucket", ""),
    "accessLogs.prefix": Attribute("access_logs.s3.prefix", ""),
    "connectionLogs.enabled": Attribute("connection_logs.s3.enabled", False),
    "connectionLogs.bucket": Attribute("connection_logs.s3.bucket", ""),
    "connectionLogs.prefix": Attribute("connection_logs.s3.prefix", ""),
}


class LoadBalancer(_Balancing):
    type = "aws:lb/loadBalancer:LoadBalancer"
    create = "elbv2.CreateLoadBalancer"
    listed = ("elbv2.DescribeLoadBalancers", "LoadBalancers", "LoadBalancerArn")
    destroy = ("elbv2.DeleteLoadBalancer", "LoadBalancerArn")
    name_argument = "name"
    name_limit = _NAME_LIMIT
    members: ClassVar[Mapping[str, str]] = {"loadBalancerType": "Type"}
    settled = frozenset({key.partition(".")[0] for key in LOAD_BALANCER_ATTRIBUTES})
    updates: ClassVar[Mapping[str, Any]] = {
        "accessLogs": {},
        "connectionLogs": {},
        "ipAddressType": "ipv4",
        "securityGroups": REQUIRED,
        "subnets": REQUIRED,
        "tags": {},
    } | {key: attribute.default for key, attribute in LOAD_BALANCER_ATTRIBUTES.items() if "." not in key}

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        super().check(aws, inputs)
        attributes_of(LOAD_BALANCER_ATTRIBUTES, inputs, self.settled & set(inputs))

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        internal = shaped.pop("internal", False)
        scheme = UNKNOWN if internal is UNKNOWN else "internal" if internal else "internet-facing"
        return {**shaped, "Scheme": scheme}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        self._wait(aws, identity)
        values = attributes_of(LOAD_BALANCER_ATTRIBUTES, want.inputs, changed)
        if values:
            request = attribute_list(values)
            aws.call("elbv2.ModifyLoadBalancerAttributes", LoadBalancerArn=identity, Attributes=request)
        for argument, operation, member in (
            ("securityGroups", "elbv2.SetSecurityGroups", "SecurityGroups"),
            ("subnets", "elbv2.SetSubnets", "Subnets"),
            ("ipAddressType", "elbv2.SetIpAddressType", "IpAddressType"),
        ):
            if argument in changed:
                value = want.get(argument, self.updates[argument])
                aws.call(operation, LoadBalancerArn=identity, **{member: value})

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        balancer = self._described(aws, identity)
        return {
            "arn": identity,
            "arnSuffix": identity.partition("loadbalancer/")[2],
            "dnsName": balancer["DNSName"],
            "zoneId": balancer["CanonicalHostedZoneId"],
            "vpcId": balancer["VpcId"],
            "name": want.physical,
        }

    def _wait(self, aws: Aws, identity: str) -> None:
        aws.wait(
            f"load balancer {identity} active",
            lambda: self._described(aws, identity)["State"]["Code"] == "active",
            _BALANCER_SECONDS,
        )

    def _described(self, aws: Aws, identity: str) -> dict[str, Any]:
        return dict(aws.call("elbv2.DescribeLoadBalancers", LoadBalancerArns=[identity])["LoadBalancers"][0])


class Listener(_Balancing):
    type = "aws:lb/listener:Listener"
    create = "elbv2.CreateListener"
    listed = ("elbv2.DescribeListeners", "Listeners", "ListenerArn")
    destroy = ("elbv2.DeleteListener", "ListenerArn")
    updates: ClassVar[Mapping[str, Any]] = {
        "port": REQUIRED,
        "protocol": "HTTP",
        "sslPolicy": REQUIRED,
        "certificateArn": REQUIRED,
        "defaultActions": REQUIRED,
        "tags": {},
    }

    def key(self, want: Want) -> str:
        return f"{want.inputs['loadBalancerArn']} {want.inputs['port']}"

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        certificate = shaped.pop("certificateArn", None)
        actions = shaped.pop("defaultActions", [])
        shaped["DefaultActions"] = actions if actions is UNKNOWN else [action(a) for a in actions]
        return (
            shaped if certificate is None else {**shaped, "Certificates": [{"CertificateArn": certificate}]}
        )

    def request(self, aws: Aws, want: Want) -> dict[str, Any]:
        return self.fitted(aws, self.create, self.shaped(want.inputs))

    def find(self, aws: Aws, want: Want) -> str | None:
        found = aws.call("elbv2.DescribeListeners", LoadBalancerArn=want.inputs["loadBalancerArn"])[
            "Listeners"
        ]
        mine = (item for item in found if item["Port"] == int(want.inputs["port"]))
        return next((str(item["ListenerArn"]) for item in mine), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        if set(changed) - {"tags"}:
            skip = {"loadBalancerArn", "tags"}
            arguments = {key: value for key, value in want.inputs.items() if key not in skip}
            request = self.fitted(aws, "elbv2.ModifyListener", self.shaped(arguments))
            aws.call("elbv2.ModifyListener", ListenerArn=identity, **request)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, want
        return {"arn": identity}


class ListenerRule(_Balancing):
    type = "aws:lb/listenerRule:ListenerRule"
    create = "elbv2.CreateRule"
    listed = ("elbv2.DescribeRules", "Rules", "RuleArn")
    destroy = ("elbv2.DeleteRule", "RuleArn")
    updates: ClassVar[Mapping[str, Any]] = {
        "priority": REQUIRED,
        "conditions": REQUIRED,
        "actions": REQUIRED,
        "tags": {},
    }

    def key(self, want: Want) -> str:
        return f"{want.inputs['listenerArn']} {want.inputs['priority']}"

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        for member, translate in (("actions", action), ("conditions", condition)):
            if isinstance(shaped.get(member), list):
                shaped[member] = [translate(item) for item in shaped[member]]
        return shaped

    def request(self, aws: Aws, want: Want) -> dict[str, Any]:
        return self.fitted(aws, self.create, self.shaped(want.inputs))

    def find(self, aws: Aws, want: Want) -> str | None:
        found = aws.call("elbv2.DescribeRules", ListenerArn=want.inputs["listenerArn"])["Rules"]
        mine = (item for item in found if item["Priority"] == str(want.inputs["priority"]))
        return next((str(item["RuleArn"]) for item in mine), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        if set(changed) & {"conditions", "actions"}:
            skip = {"listenerArn", "priority", "tags"}
            arguments = {key: value for key, value in want.inputs.items() if key not in skip}
            request = self.fitted(aws, "elbv2.ModifyRule", self.shaped(arguments))
            aws.call("elbv2.ModifyRule", RuleArn=identity, **request)
        if "priority" in changed:
            priority = {"RuleArn": identity, "Priority": int(want.inputs["priority"])}
            aws.call("elbv2.SetRulePriorities", RulePriorities=[priority])

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, want
        return {"arn": identity}


def _retag(aws: Aws, identity: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    if changed:
        aws.call("elbv2.AddTags", ResourceArns=[identity], Tags=tag_list(changed))
    if removed:
        aws.call("elbv2.RemoveTags", ResourceArns=[identity], TagKeys=removed)


HANDLERS: tuple[Handler, ...] = (LoadBalancer(), TargetGroup(), Listener(), ListenerRule())
