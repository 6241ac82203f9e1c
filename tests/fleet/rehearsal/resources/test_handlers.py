"""Each type on moto: what was made is found again, what changes changes in AWS, what is deleted is gone."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet.rehearsal.resources import HANDLERS

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
LIST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:List*", "Resource": "*"}]}


def vpc(bench: Any) -> dict[str, Any]:
    return {"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": True, "tags": {"a": "b"}}


def subnet(bench: Any) -> dict[str, Any]:
    return {"vpcId": bench.network()[0], "cidrBlock": "10.0.9.0/24", "mapPublicIpOnLaunch": True}


def of_vpc(bench: Any) -> dict[str, Any]:
    return {"vpcId": bench.network()[0], "tags": {"a": "b"}}


def nat(bench: Any) -> dict[str, Any]:
    address = bench.make("ec2/eip:Eip", "nat-address", domain="vpc")
    return {"allocationId": address, "subnetId": bench.network()[1][0]}


def route(bench: Any) -> dict[str, Any]:
    vpc, _ = bench.network()
    gateway = bench.make("ec2/internetGateway:InternetGateway", "out", vpcId=vpc)
    table = bench.make("ec2/routeTable:RouteTable", "table", vpcId=vpc)
    return {"routeTableId": table, "destinationCidrBlock": "0.0.0.0/0", "gatewayId": gateway}


def association(bench: Any) -> dict[str, Any]:
    vpc, subnets = bench.network()
    return {
        "routeTableId": bench.make("ec2/routeTable:RouteTable", "table", vpcId=vpc),
        "subnetId": subnets[0],
    }


def endpoint(bench: Any) -> dict[str, Any]:
    vpc, _ = bench.network()
    table = bench.make("ec2/routeTable:RouteTable", "table", vpcId=vpc)
    service = "com.amazonaws.us-east-1.s3"
    return {"vpcId": vpc, "serviceName": service, "vpcEndpointType": "Gateway", "routeTableIds": [table]}


def security_group(bench: Any) -> dict[str, Any]:
    return {"vpcId": bench.network()[0], "description": "nodes"}


def rule(bench: Any) -> dict[str, Any]:
    group = bench.make("ec2/securityGroup:SecurityGroup", "nodes", **security_group(bench))
    ports = {"ipProtocol": "tcp", "fromPort": 80, "toPort": 80}
    return {"securityGroupId": group, "cidrIpv4": "10.0.0.0/8", **ports}


def load_balancer(bench: Any) -> dict[str, Any]:
    vpc, subnets = bench.network()
    group = bench.make("ec2/securityGroup:SecurityGroup", "web", vpcId=vpc, description="web")
    return {"subnets": subnets, "securityGroups": [group], "internal": True, "tags": {"a": "b"}}


def target_group(bench: Any) -> dict[str, Any]:
    checked = {"path": "/ready", "interval": 10, "matcher": "200"}
    return {"vpcId": bench.network()[0], "port": 80, "protocol": "HTTP", "healthCheck": checked}


def listener(bench: Any) -> dict[str, Any]:
    balancer, group = bench.balancer()
    forward = {"type": "forward", "targetGroupArn": group}
    return {"loadBalancerArn": balancer, "port": 80, "protocol": "HTTP", "defaultActions": [forward]}


def listener_rule(bench: Any) -> dict[str, Any]:
    arn = bench.make("lb/listener:Listener", "front", **listener(bench))
    fixed = {"contentType": "text/plain", "statusCode": "404"}
    return {
        "listenerArn": arn,
        "priority": 10,
        "conditions": [{"pathPattern": {"values": ["/v1/*"]}}],
        "actions": [{"type": "fixed-response", "fixedResponse": fixed}],
    }


def role(bench: Any) -> dict[str, Any]:
    return {"assumeRolePolicy": json.dumps(TRUST), "tags": {"a": "b"}}


def role_policy(bench: Any) -> dict[str, Any]:
    return {"role": bench.make("iam/role:Role", "node", **role(bench)), "policy": json.dumps(READ)}


def attachment(bench: Any) -> dict[str, Any]:
    policy = bench.make("iam/policy:Policy", "read", policy=json.dumps(READ))
    return {"role": bench.make("iam/role:Role", "node", **role(bench)), "policyArn": policy}


def profile(bench: Any) -> dict[str, Any]:
    return {"role": bench.make("iam/role:Role", "node", **role(bench))}


def queue_policy(bench: Any) -> dict[str, Any]:
    return {"queueUrl": bench.make("sqs/queue:Queue", "jobs"), "policy": json.dumps(READ)}


def event_rule(bench: Any) -> dict[str, Any]:
    return {"eventPattern": json.dumps({"source": ["aws.ec2"]}), "tags": {"a": "b"}}


def event_target(bench: Any) -> dict[str, Any]:
    name = bench.make("cloudwatch/eventRule:EventRule", "spot", **event_rule(bench))
    return {"rule": name, "arn": "arn:aws:sqs:us-east-1:123456789012:jobs"}


def alarm(bench: Any) -> dict[str, Any]:
    return {
        "comparisonOperator": "GreaterThanThreshold",
        "evaluationPeriods": 1,
        "metricName": "Age",
        "namespace": "AWS/SQS",
        "period": 60,
        "statistic": "Maximum",
        "threshold": 60,
        "dimensions": {"QueueName": "jobs"},
    }


def policy(bench: Any) -> dict[str, Any]:
    metric = {"predefinedMetricType": "ASGAverageCPUUtilization"}
    return {
        "autoscalingGroupName": bench.group(),
        "policyType": "TargetTrackingScaling",
        "targetTrackingConfiguration": {"targetValue": 70, "predefinedMetricSpecification": metric},
    }


def hook(bench: Any) -> dict[str, Any]:
    transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    return {"autoscalingGroupName": bench.group(), "lifecycleTransition": transition}


def group(bench: Any) -> dict[str, Any]:
    subnets = bench.network()[1]
    template = {"launchTemplateSpecification": {"launchTemplateId": bench.template(), "version": "1"}}
    mixed = {"launchTemplate": {**template, "overrides": [{"instanceType": "c7i.large"}]}}
    return {"minSize": 0, "maxSize": 1, "vpcZoneIdentifiers": subnets, "mixedInstancesPolicy": mixed}


def launch_template(bench: Any) -> dict[str, Any]:
    return {"imageId": bench.image(), "metadataOptions": {"httpTokens": "required"}, "tags": {"a": "b"}}


def plain(**inputs: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda _bench: inputs


TYPES = {
    "ec2/vpc:Vpc": vpc,
    "ec2/subnet:Subnet": subnet,
    "ec2/internetGateway:InternetGateway": of_vpc,
    "ec2/eip:Eip": plain(domain="vpc"),
    "ec2/natGateway:NatGateway": nat,
    "ec2/routeTable:RouteTable": of_vpc,
    "ec2/route:Route": route,
    "ec2/routeTableAssociation:RouteTableAssociation": association,
    "ec2/vpcEndpoint:VpcEndpoint": endpoint,
    "ec2/securityGroup:SecurityGroup": security_group,
    "vpc/securityGroupIngressRule:SecurityGroupIngressRule": rule,
    "vpc/securityGroupEgressRule:SecurityGroupEgressRule": rule,
    "ec2/launchTemplate:LaunchTemplate": launch_template,
    "lb/loadBalancer:LoadBalancer": load_balancer,
    "lb/targetGroup:TargetGroup": target_group,
    "lb/listener:Listener": listener,
    "lb/listenerRule:ListenerRule": listener_rule,
    "iam/role:Role": role,
    "iam/rolePolicy:RolePolicy": role_policy,
    "iam/policy:Policy": plain(policy=json.dumps(READ)),
    "iam/rolePolicyAttachment:RolePolicyAttachment": attachment,
    "iam/instanceProfile:InstanceProfile": profile,
    "sqs/queue:Queue": plain(visibilityTimeoutSeconds=5, tags={"a": "b"}),
    "sqs/queuePolicy:QueuePolicy": queue_policy,
    "cloudwatch/eventRule:EventRule": event_rule,
    "cloudwatch/eventTarget:EventTarget": event_target,
    "cloudwatch/logGroup:LogGroup": plain(retentionInDays=7, tags={"a": "b"}),
    "cloudwatch/metricAlarm:MetricAlarm": alarm,
    "cloudwatch/dashboard:Dashboard": plain(dashboardName="d", dashboardBody='{"widgets": []}'),
    "ssm/parameter:Parameter": plain(type="String", value="x", name="/x"),
    "autoscaling/group:Group": group,
    "autoscaling/policy:Policy": policy,
    "autoscaling/lifecycleHook:LifecycleHook": hook,
}


def test_every_type_is_tested_here() -> None:
    """A new handler must be found again, too."""
    files = ("test_more_handlers.py", "test_lambdas.py")
    others = [kind for file in files for kind in runpy.run_path(str(Path(__file__).with_name(file)))["TYPES"]]
    # What plain moto cannot make is in test_alarms.py, and in the tests of rollouts.
    made = {*TYPES, *others, "cloudwatch/compositeAlarm:CompositeAlarm"}
    rollout = "pulumi-python:dynamic/goldenfleet:Rollout"
    assert {rollout, *(f"aws:{kind}" for kind in made)} == set(HANDLERS)


@pytest.mark.parametrize("kind", TYPES)
def test_what_was_made_is_found_again_and_gone_once_deleted(kind, bench) -> None:
    """After a kill, the recorded name or mark tells whether a resource exists."""
    identity = bench.make(kind, "it", **TYPES[kind](bench))
    assert bench.find(kind, "it") == identity
    bench.outputs(kind, "it")
    bench.delete(kind, "it")
    assert bench.find(kind, "it") is None


def test_target_group_updates_reach_aws(bench) -> None:
    """Attributes, health check and tags change in place, and go back to AWS's own values."""
    kind = "lb/targetGroup:TargetGroup"
    arn = bench.make(kind, "it", deregistrationDelay=90, tags={"a": "b"}, **target_group(bench))
    bench.change(
        kind, "it", deregistrationDelay=30, healthCheck={"path": "/up", "interval": 20}, tags={"c": "d"}
    )
    (found,) = bench.call("elbv2.DescribeTargetGroups", TargetGroupArns=[arn])["TargetGroups"]
    assert (found["HealthCheckPath"], found["HealthCheckIntervalSeconds"]) == ("/up", 20)
    assert attributes(bench, "TargetGroup", arn)["deregistration_delay.timeout_seconds"] == "30"
    assert elb_tags(bench, arn) == {"c": "d"}
    bench.change(kind, "it", deregistrationDelay=None, healthCheck=None, tags=None)
    (found,) = bench.call("elbv2.DescribeTargetGroups", TargetGroupArns=[arn])["TargetGroups"]
    assert found["HealthCheckPath"] == "/"
    assert attributes(bench, "TargetGroup", arn)["deregistration_delay.timeout_seconds"] == "300"
    assert elb_tags(bench, arn) == {}


def test_load_balancer_updates_reach_aws(bench) -> None:
    """Attributes, security groups and subnets change in place."""
    kind = "lb/loadBalancer:LoadBalancer"
    arn = bench.make(kind, "it", idleTimeout=30, **load_balancer(bench))
    vpc = bench.wants["net"][0]
    other = bench.make("ec2/securityGroup:SecurityGroup", "other", vpcId=vpc, description="x")
    bench.change(kind, "it", idleTimeout=45, dropInvalidHeaderFields=True, securityGroups=[other])
    found = attributes(bench, "LoadBalancer", arn)
    assert found["idle_timeout.timeout_seconds"] == "45"
    assert found["routing.http.drop_invalid_header_fields.enabled"] == "true"
    (balancer,) = bench.call("elbv2.DescribeLoadBalancers", LoadBalancerArns=[arn])["LoadBalancers"]
    assert balancer["SecurityGroups"] == [other]


def test_listener_and_rule_updates_reach_aws(bench) -> None:
    """Default actions, conditions, actions and priorities change in place."""
    rule_arn = bench.make("lb/listenerRule:ListenerRule", "it", **listener_rule(bench))
    fixed = {"type": "fixed-response", "fixedResponse": {"contentType": "text/plain", "statusCode": "503"}}
    bench.change("lb/listener:Listener", "front", defaultActions=[fixed])
    hosts = [{"hostHeader": {"values": ["a.example"]}}]
    bench.change("lb/listenerRule:ListenerRule", "it", priority=20, conditions=hosts)
    (found,) = bench.call("elbv2.DescribeListeners", ListenerArns=[bench.wants["front"][0]])["Listeners"]
    assert found["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"] == "503"
    (rule,) = bench.call("elbv2.DescribeRules", RuleArns=[rule_arn])["Rules"]
    assert (rule["Priority"], rule["Conditions"][0]["Field"]) == ("20", "host-header")


def test_a_changed_launch_template_gets_a_new_version(bench) -> None:
    """Data makes a version; tags do not; the default version moves only when it is told to."""
    kind = "ec2/launchTemplate:LaunchTemplate"
    bench.make(kind, "it", **launch_template(bench))
    bench.change(kind, "it", tags={"c": "d"})
    assert bench.outputs(kind, "it")["latestVersion"] == 1
    bench.change(kind, "it", userData="dGV4dA==")
    assert bench.outputs(kind, "it")["latestVersion"] == 2
    assert bench.outputs(kind, "it")["defaultVersion"] == 1
    bench.change(kind, "it", userData="bW9yZQ==", updateDefaultVersion=True)
    assert bench.outputs(kind, "it")["defaultVersion"] == 3


def test_group_updates_send_only_what_changed(bench) -> None:
    """A size that scaling has moved stays when others change; tags and targets follow the program."""
    kind = "autoscaling/group:Group"
    _, target = bench.balancer()
    tags = [{"key": "a", "value": "b", "propagateAtLaunch": True}]
    name = bench.make(kind, "it", desiredCapacity=0, tags=tags, **group(bench))
    bench.call("autoscaling.SetDesiredCapacity", AutoScalingGroupName=name, DesiredCapacity=1)
    moved = [{"key": "c", "value": "d", "propagateAtLaunch": False}]
    bench.change(kind, "it", maxSize=3, tags=moved, targetGroupArns=[target])
    (found,) = bench.call("autoscaling.DescribeAutoScalingGroups")["AutoScalingGroups"]
    assert (found["DesiredCapacity"], found["MaxSize"]) == (1, 3)
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"c": "d"}
    assert found["TargetGroupARNs"] == [target]
    bench.change(kind, "it", targetGroupArns=None)
    (found,) = bench.call("autoscaling.DescribeAutoScalingGroups")["AutoScalingGroups"]
    assert found["TargetGroupARNs"] == []


def test_deleting_a_group_ends_its_instances_first(bench) -> None:
    """What follows, security groups and subnets, must find no instance."""
    kind = "autoscaling/group:Group"
    bench.make(kind, "it", desiredCapacity=1, **group(bench))
    (found,) = bench.call("autoscaling.DescribeAutoScalingGroups")["AutoScalingGroups"]
    instances = [item["InstanceId"] for item in found["Instances"]]
    bench.delete(kind, "it")
    reservations = bench.call("ec2.DescribeInstances", InstanceIds=instances)["Reservations"]
    states = {item["State"]["Name"] for r in reservations for item in r["Instances"]}
    assert (len(instances), states) == (1, {"terminated"})


def test_policies_parameters_alarms_and_rules_change_in_place(bench) -> None:
    """Putting again replaces what was there."""
    bench.make("iam/rolePolicy:RolePolicy", "inline", **role_policy(bench))
    bench.change("iam/rolePolicy:RolePolicy", "inline", policy=json.dumps(LIST))
    named = {"RoleName": bench.wants["node"][0], "PolicyName": bench.wants["inline"][1].physical}
    assert bench.call("iam.GetRolePolicy", **named)["PolicyDocument"] == LIST
    bench.make("ssm/parameter:Parameter", "param", type="String", value="x", name="/x")
    bench.change("ssm/parameter:Parameter", "param", value="y")
    assert bench.call("ssm.GetParameter", Name="/x")["Parameter"]["Value"] == "y"
    bench.make("cloudwatch/metricAlarm:MetricAlarm", "late", **alarm(bench))
    bench.change("cloudwatch/metricAlarm:MetricAlarm", "late", threshold=90)
    assert bench.call("cloudwatch.DescribeAlarms")["MetricAlarms"][0]["Threshold"] == 90
    name = bench.make("cloudwatch/eventRule:EventRule", "spot", **event_rule(bench))
    bench.change("cloudwatch/eventRule:EventRule", "spot", state="DISABLED", tags={"c": "d"})
    rule = bench.call("events.DescribeRule", Name=name)
    assert rule["State"] == "DISABLED"
    tags = bench.call("events.ListTagsForResource", ResourceARN=rule["Arn"])["Tags"]
    assert tags == [{"Key": "c", "Value": "d"}]


def test_security_group_rules_change_in_place(bench) -> None:
    """A rule keeps its id when its ports change."""
    kind = "vpc/securityGroupIngressRule:SecurityGroupIngressRule"
    identity = bench.make(kind, "it", **rule(bench))
    bench.change(kind, "it", fromPort=81, toPort=81)
    rules = bench.call("ec2.DescribeSecurityGroupRules", SecurityGroupRuleIds=[identity])
    assert [r["FromPort"] for r in rules["SecurityGroupRules"]] == [81]


def test_a_new_security_group_lets_nothing_out(bench) -> None:
    """pulumi-aws takes away the rule that AWS gives every new group."""
    identity = bench.make("ec2/securityGroup:SecurityGroup", "it", **security_group(bench))
    (found,) = bench.call("ec2.DescribeSecurityGroups", GroupIds=[identity])["SecurityGroups"]
    assert found["IpPermissionsEgress"] == []


def attributes(bench: Any, kind: str, arn: str) -> dict[str, str]:
    answer = bench.call(f"elbv2.Describe{kind}Attributes", **{f"{kind}Arn": arn})
    return {item["Key"]: item["Value"] for item in answer["Attributes"]}


def elb_tags(bench: Any, arn: str) -> dict[str, str]:
    (found,) = bench.call("elbv2.DescribeTags", ResourceArns=[arn])["TagDescriptions"]
    return {tag["Key"]: tag["Value"] for tag in found["Tags"]}
