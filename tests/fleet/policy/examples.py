"""For each rule: what violates it, and the nearest to that which does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fleet.policy import kinds
from fleet.policy.model import Resource

Refs = Mapping[str, list[str]]
Stack = list[Resource]


class Example(NamedTuple):
    bad: Stack
    good: Stack


def made(kind: str, name: str = "it", refs: Refs | None = None, **props: Any) -> Resource:
    """Refs are argument -> names of resources in the same example."""
    urns = {argument: [urn(other) for other in others] for argument, others in (refs or {}).items()}
    return Resource(kind, name, urn(name), props, urns)


def urn(name: str) -> str:
    return f"urn:pulumi:test::goldenfleet::x::{name}"


def one(kind: str, bad: Mapping[str, Any], good: Mapping[str, Any]) -> Example:
    return Example([made(kind, **bad)], [made(kind, **good)])


def mixed(**distribution: Any) -> dict[str, Any]:
    return {"mixedInstancesPolicy": {"instancesDistribution": distribution}}


def spot(**more: Any) -> dict[str, Any]:
    return {**mixed(onDemandPercentageAboveBaseCapacity=0), **more}


def types(*names: str) -> dict[str, Any]:
    overrides = [{"instanceType": name} for name in names]
    policy = mixed(onDemandPercentageAboveBaseCapacity=0)["mixedInstancesPolicy"]
    return {"mixedInstancesPolicy": {**policy, "launchTemplate": {"overrides": overrides}}}


def version(number: str) -> dict[str, Any]:
    specification = {"launchTemplateSpecification": {"version": number}}
    return {"mixedInstancesPolicy": {"launchTemplate": specification}}


def policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(actions: list[str], resource: str, **more: Any) -> dict[str, Any]:
    return {"policy": policy({"Effect": "Allow", "Action": actions, "Resource": resource, **more})}


PLAIN = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def tls_only(kind: str, policy_kind: str, argument: str) -> Example:
    of = made(kind)
    open_policy = made(policy_kind, "policy", {argument: ["it"]}, policy=policy({"Effect": "Allow"}))
    deny = made(policy_kind, "policy", {argument: ["it"]}, policy=policy(PLAIN))
    return Example([of, open_policy], [of, deny])


def rule_of(port: int, block: str = "0.0.0.0/0") -> Resource:
    ports = {"fromPort": port, "toPort": port}
    return made(kinds.INGRESS, "rule", {"securityGroupId": ["sg"]}, ipProtocol="tcp", cidrIpv4=block, **ports)


def behind(balancer_internal: bool, rule: Resource) -> Stack:
    balancer = made(kinds.BALANCER, "lb", {"securityGroups": ["sg"]}, internal=balancer_internal)
    return [made(kinds.SECURITY_GROUP, "sg"), balancer, rule]


def clear_text(block: str) -> Stack:
    """A public balancer that forwards what it hears on port 80, and who may say it."""
    forward = [{"type": "forward"}]
    http = made(
        kinds.LISTENER, "http", {"loadBalancerArn": ["lb"]}, protocol="HTTP", port=80, defaultActions=forward
    )
    return [*behind(False, rule_of(80, block)), http]


def listeners(action: str) -> Stack:
    redirect = {"type": "redirect", "redirect": {"protocol": "HTTPS"}}
    actions = [redirect if action == "redirect" else {"type": "forward"}]
    return [
        made(kinds.BALANCER, "lb", internal=False),
        made(kinds.LISTENER, "http", {"loadBalancerArn": ["lb"]}, protocol="HTTP", defaultActions=actions),
        made(kinds.LISTENER, "https", {"loadBalancerArn": ["lb"]}, protocol="HTTPS"),
    ]


def encrypting(**balancer: Any) -> Stack:
    return [
        made(kinds.BALANCER, "lb", **balancer),
        made(kinds.LISTENER, "https", {"loadBalancerArn": ["lb"]}, protocol="HTTPS"),
    ]


def hook(seconds: int, on: str = "autoscaling:EC2_INSTANCE_TERMINATING") -> dict[str, Any]:
    return {"initialLifecycleHooks": [{"lifecycleTransition": on, "heartbeatTimeout": seconds}]}


def rolled_out(group: Mapping[str, Any] = {}, **preferences: Any) -> Stack:
    rollout = made(kinds.ROLLOUT, "rollout", {"group": ["it"]}, preferences=preferences)
    return [made(kinds.GROUP, **group), rollout]


def counted(**metric: str) -> dict[str, Any]:
    predefined = {"predefinedMetricType": "ALBRequestCountPerTarget", **metric}
    return {"targetTrackingConfiguration": {"predefinedMetricSpecification": predefined}}


def tracked(statistic: str) -> dict[str, Any]:
    metric = {"namespace": "N", "metricName": "M", "statistic": statistic}
    return {"targetTrackingConfiguration": {"customizedMetricSpecification": metric}}


def forecast(behaviour: str) -> dict[str, Any]:
    return {"predictiveScalingConfiguration": {"maxCapacityBreachBehavior": behaviour}}


def trusted(principal: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"assumeRolePolicy": policy(statement)}


def disk(**ebs: Any) -> dict[str, Any]:
    return {"blockDeviceMappings": [{"deviceName": "/dev/sda1", "ebs": ebs}]}


def user_data(script: str) -> dict[str, str]:
    return {"userData": base64.b64encode(script.encode()).decode()}


BLOCKED = dict.fromkeys(
    ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
)
OWN_ACCOUNT = {"StringEquals": {"aws:PrincipalAccount": "123456789012"}}
OF_STACK = {"StringEquals": {"aws:ResourceTag/goldenfleet:stack": "test"}}
MANAGED = "arn:aws:iam::aws:policy/AdministratorAccess"
BUCKET = made(kinds.BUCKET)
IN_BUCKET: Refs = {"bucket": ["it"]}
TAGS = {"goldenfleet:stack": "test", "goldenfleet:tier": "model"}
LOW = "ELBSecurityPolicy-2016-08"
HIGH = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
WATCHED = "No healthy node. https://example.com/runbook#empty"
SAFE = {
    "autoRollback": True,
    "minHealthyPercentage": 90,
    "maxHealthyPercentage": 110,
    "checkpointPercentages": [20, 100],
}

EXAMPLES: Mapping[str, Example] = {
    "imds-token": one(
        kinds.TEMPLATE,
        {"metadataOptions": {"httpTokens": "optional"}},
        {"metadataOptions": {"httpTokens": "required"}},
    ),
    "imds-hop-limit": one(
        kinds.TEMPLATE,
        {"metadataOptions": {"httpPutResponseHopLimit": 3}},
        {"metadataOptions": {"httpPutResponseHopLimit": 2}},
    ),
    "no-public-address": one(
        kinds.TEMPLATE,
        {"networkInterfaces": [{"associatePublicIpAddress": "true"}]},
        {"networkInterfaces": [{"associatePublicIpAddress": "false"}]},
    ),
    "no-ssh-key": one(kinds.TEMPLATE, {"keyName": "mine"}, {}),
    "volumes-encrypted": one(kinds.TEMPLATE, disk(encrypted="false"), disk(encrypted="true")),
    "image-pinned": one(
        kinds.TEMPLATE,
        {"imageId": "resolve:ssm:/goldenfleet/prod/image/model/prod"},
        {"imageId": "ami-0123456789abcdef0"},
    ),
    "detailed-monitoring": one(kinds.TEMPLATE, {}, {"monitoring": {"enabled": True}}),
    "no-plain-secret": one(
        kinds.TEMPLATE,
        user_data("#!/bin/sh\nexport API_KEY=sk-abcdefghijklmnopqrst\n"),
        user_data("#!/bin/sh\nexport API_KEY=ssm:/goldenfleet/prod/key\n"),
    ),
    "no-ssh": one(
        kinds.INGRESS,
        {"ipProtocol": "tcp", "fromPort": 20, "toPort": 25},
        {"ipProtocol": "tcp", "fromPort": 8080, "toPort": 8080},
    ),
    "no-open-ingress": Example(behind(True, rule_of(443)), behind(False, rule_of(443))),
    "no-open-clear-text": Example(clear_text("0.0.0.0/0"), clear_text("203.0.113.0/24")),
    "egress-https-only": one(
        kinds.EGRESS,
        {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"},
        {"ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "cidrIpv4": "0.0.0.0/0"},
    ),
    "flow-logs": Example(
        [made(kinds.VPC)], [made(kinds.VPC), made(kinds.FLOW_LOG, "log", {"vpcId": ["it"]})]
    ),
    "endpoints-private": one(
        kinds.ENDPOINT,
        {"vpcEndpointType": "Interface", "securityGroupIds": ["sg-1"]},
        {"vpcEndpointType": "Interface", "securityGroupIds": ["sg-1"], "privateDnsEnabled": True},
    ),
    "endpoints-bounded": one(
        kinds.ENDPOINT,
        {"policy": policy({"Effect": "Allow", "Action": ["ssm:GetParameter"]})},
        {"policy": policy({"Effect": "Allow", "Action": ["ssm:GetParameter"], "Condition": OWN_ACCOUNT})},
    ),
    "tls-policy": one(
        kinds.LISTENER, {"protocol": "HTTPS", "sslPolicy": LOW}, {"protocol": "HTTPS", "sslPolicy": HIGH}
    ),
    "http-redirects": Example(listeners("forward"), listeners("redirect")),
    "invalid-headers-dropped": one(kinds.BALANCER, {}, {"dropInvalidHeaderFields": True}),
    "desync-strictest": one(
        kinds.BALANCER, {"desyncMitigationMode": "defensive"}, {"desyncMitigationMode": "strictest"}
    ),
    "deletion-protection": one(
        kinds.BALANCER, {"enableDeletionProtection": False}, {"enableDeletionProtection": True}
    ),
    "access-logs": one(kinds.BALANCER, {}, {"accessLogs": {"bucket": "logs", "enabled": True}}),
    "connection-logs": Example(encrypting(), encrypting(connectionLogs={"bucket": "logs", "enabled": True})),
    "web-firewall": Example(
        [made(kinds.BALANCER)],
        [made(kinds.BALANCER), made(kinds.ACL_ASSOCIATION, "acl", {"resourceArn": ["it"]})],
    ),
    "template-version-pinned": one(kinds.GROUP, version("$Latest"), version("7")),
    "spot-allocation": one(
        kinds.GROUP,
        mixed(onDemandPercentageAboveBaseCapacity=0, spotAllocationStrategy="lowest-price"),
        mixed(onDemandPercentageAboveBaseCapacity=0, spotAllocationStrategy="price-capacity-optimized"),
    ),
    "capacity-rebalance": one(kinds.GROUP, spot(), spot(capacityRebalance=True)),
    "spot-types": one(
        kinds.GROUP, types("g5.xlarge", "g6.xlarge"), types("g5.xlarge", "g6.xlarge", "g6e.xlarge")
    ),
    "spot-zones": one(
        kinds.GROUP, spot(vpcZoneIdentifiers=["a", "b"]), spot(vpcZoneIdentifiers=["a", "b", "c"])
    ),
    "deregistration-delay": one(
        kinds.TARGET_GROUP, {"deregistrationDelay": 300}, {"deregistrationDelay": 90}
    ),
    "terminate-hook": one(kinds.GROUP, hook(3600), hook(120)),
    "instance-warmup": one(kinds.GROUP, {}, {"defaultInstanceWarmup": 120}),
    "balancer-health": one(
        kinds.GROUP,
        {"targetGroupArns": ["arn"], "healthCheckType": "EC2"},
        {"targetGroupArns": ["arn"], "healthCheckType": "ELB"},
    ),
    "group-scales": Example(
        [made(kinds.GROUP, minSize=1, maxSize=4)],
        [
            made(kinds.GROUP, minSize=1, maxSize=4),
            made(kinds.SCALING_POLICY, "cpu", {"autoscalingGroupName": ["it"]}),
        ],
    ),
    "request-count-label": one(
        kinds.SCALING_POLICY, counted(), counted(resourceLabel="app/lb/1/targetgroup/tg/2")
    ),
    "tracked-metric-falls": one(kinds.SCALING_POLICY, tracked("Sum"), tracked("Average")),
    "forecast-keeps-max": one(
        kinds.SCALING_POLICY, forecast("IncreaseMaxCapacity"), forecast("HonorMaxCapacity")
    ),
    "pool-is-ready": one(
        kinds.GROUP,
        {"warmPool": {}, **hook(120)},
        {"warmPool": {}, **hook(120, "autoscaling:EC2_INSTANCE_LAUNCHING")},
    ),
    "rollout-is-safe": Example(rolled_out(**{**SAFE, "autoRollback": False}), rolled_out(**SAFE)),
    "rollout-watched": one(
        kinds.ROLLOUT,
        {"preferences": {"alarmSpecification": {"alarms": []}, "bakeTime": 600}},
        {"preferences": {"alarmSpecification": {"alarms": ["lost"]}, "bakeTime": 600}},
    ),
    "actions-named": one(
        kinds.ROLE_POLICY, allow(["sqs:*"], "arn:aws:sqs:::q"), allow(["sqs:SendMessage"], "arn:aws:sqs:::q")
    ),
    "resources-named": one(
        kinds.ROLE_POLICY, allow(["ec2:TerminateInstances"], "*"), allow(["ec2:DescribeInstances"], "*")
    ),
    "changes-within-stack": one(
        kinds.ROLE_POLICY,
        allow(["autoscaling:DetachInstances"], "arn:aws:autoscaling:::g"),
        allow(["autoscaling:DetachInstances"], "arn:aws:autoscaling:::g", Condition=OF_STACK),
    ),
    "boundary-everywhere": Example(
        [made(kinds.ROLE), made(kinds.ROLE, "other", permissionsBoundary=MANAGED)],
        [
            made(kinds.ROLE, permissionsBoundary=MANAGED),
            made(kinds.ROLE, "other", permissionsBoundary=MANAGED),
        ],
    ),
    "no-broad-policy": one(
        kinds.ATTACHMENT, {"policyArn": MANAGED}, {"policyArn": "arn:aws:iam::123456789012:policy/own"}
    ),
    "roles-trust-services": one(kinds.ROLE, trusted({"AWS": "*"}), trusted({"Service": "ec2.amazonaws.com"})),
    "queues-encrypted": one(kinds.QUEUE, {}, {"sqsManagedSseEnabled": True}),
    "dead-letters": Example(
        [made(kinds.QUEUE)],
        [made(kinds.QUEUE, "work", {"redrivePolicy": ["it"]}, redrivePolicy="{}"), made(kinds.QUEUE)],
    ),
    "queues-tls-only": tls_only(kinds.QUEUE, kinds.QUEUE_POLICY, "queueUrl"),
    "topics-tls-only": tls_only(kinds.TOPIC, kinds.TOPIC_POLICY, "arn"),
    "buckets-tls-only": tls_only(kinds.BUCKET, kinds.BUCKET_POLICY, "bucket"),
    "buckets-private": Example(
        [BUCKET, made(kinds.BUCKET_BLOCK, "block", IN_BUCKET, **{**BLOCKED, "blockPublicPolicy": False})],
        [BUCKET, made(kinds.BUCKET_BLOCK, "block", IN_BUCKET, **BLOCKED)],
    ),
    "buckets-kept-well": Example(
        [BUCKET, made(kinds.BUCKET_ENCRYPTION, "sse", IN_BUCKET)],
        [
            BUCKET,
            made(kinds.BUCKET_ENCRYPTION, "sse", IN_BUCKET),
            made(kinds.BUCKET_LIFECYCLE, "old", IN_BUCKET),
        ],
    ),
    "keys-rotate": one(kinds.KEY, {}, {"enableKeyRotation": True}),
    "key-used": Example(
        [
            made(kinds.TEMPLATE, **disk(kmsKeyId="key-1")),
            made(kinds.QUEUE, "queue", sqsManagedSseEnabled=True),
        ],
        [made(kinds.TEMPLATE, **disk(kmsKeyId="key-1")), made(kinds.QUEUE, "queue", kmsMasterKeyId="key-1")],
    ),
    "log-retention": one(kinds.LOG_GROUP, {}, {"retentionInDays": 14}),
    "alarm-destination": one(kinds.ALARM, {"alarmActions": []}, {"alarmActions": ["arn:aws:sns:::alarms"]}),
    "alarm-runbook": one(kinds.ALARM, {"alarmDescription": "No healthy node"}, {"alarmDescription": WATCHED}),
    "tagged": one(kinds.VPC, {"tags": {"goldenfleet:stack": "test"}}, {"tags": TAGS}),
}
