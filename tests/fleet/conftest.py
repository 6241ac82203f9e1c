"""What an account holds, for tests that must leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.rehearsal.resources import Aws

Account = dict[str, list[str]]

# Operation -> the member of its answer that lists, and the member that identifies.
_LISTS = {
    "autoscaling.DescribeAutoScalingGroups": ("AutoScalingGroups", "AutoScalingGroupName"),
    "autoscaling.DescribePolicies": ("ScalingPolicies", "PolicyName"),
    "autoscaling.DescribeScheduledActions": ("ScheduledUpdateGroupActions", "ScheduledActionName"),
    "cloudwatch.DescribeAlarms": ("MetricAlarms", "AlarmName"),
    "cloudwatch.ListDashboards": ("DashboardEntries", "DashboardName"),
    "ec2.DescribeAddresses": ("Addresses", "AllocationId"),
    "ec2.DescribeFlowLogs": ("FlowLogs", "FlowLogId"),
    "ec2.DescribeInternetGateways": ("InternetGateways", "InternetGatewayId"),
    "ec2.DescribeLaunchTemplates": ("LaunchTemplates", "LaunchTemplateId"),
    "ec2.DescribeRouteTables": ("RouteTables", "RouteTableId"),
    "ec2.DescribeSecurityGroupRules": ("SecurityGroupRules", "SecurityGroupRuleId"),
    "ec2.DescribeSecurityGroups": ("SecurityGroups", "GroupId"),
    "ec2.DescribeSubnets": ("Subnets", "SubnetId"),
    "ec2.DescribeVpcs": ("Vpcs", "VpcId"),
    "elbv2.DescribeLoadBalancers": ("LoadBalancers", "LoadBalancerArn"),
    "elbv2.DescribeTargetGroups": ("TargetGroups", "TargetGroupArn"),
    "events.ListRules": ("Rules", "Name"),
    "iam.ListInstanceProfiles": ("InstanceProfiles", "InstanceProfileName"),
    "iam.ListRoles": ("Roles", "RoleName"),
    "logs.DescribeLogGroups": ("logGroups", "logGroupName"),
    "s3.ListBuckets": ("Buckets", "Name"),
    "sns.ListSubscriptions": ("Subscriptions", "SubscriptionArn"),
    "sns.ListTopics": ("Topics", "TopicArn"),
    "ssm.DescribeParameters": ("Parameters", "Name"),
}
_ENDED = frozenset({"deleted", "deleting"})


def _instances(aws: Aws) -> list[str]:
    reservations = aws.call("ec2.DescribeInstances")["Reservations"]
    found = [item for reservation in reservations for item in reservation["Instances"]]
    return sorted(item["InstanceId"] for item in found if item["State"]["Name"] != "terminated")


def _living(aws: Aws, operation: str, many: str, name: str) -> list[str]:
    found = aws.call(operation).get(many, [])
    return sorted(item[name] for item in found if str(item.get("State", "")).lower() not in _ENDED)


def _keys(aws: Aws) -> list[str]:
    """AWS makes untagged keys of its own when a service first wants one; a deleted one waits for a month."""
    keys = [key["KeyId"] for key in aws.call("kms.ListKeys")["Keys"]]
    states = {key: aws.call("kms.DescribeKey", KeyId=key)["KeyMetadata"]["KeyState"] for key in keys}
    tagged = [key for key in keys if aws.call("kms.ListResourceTags", KeyId=key)["Tags"]]
    return sorted(key for key in tagged if states[key] != "PendingDeletion")


def _account(aws: Aws) -> Account:
    found = {
        operation: sorted(str(item[name]) for item in aws.call(operation).get(many, []))
        for operation, (many, name) in _LISTS.items()
    }
    found["ec2.DescribeNatGateways"] = _living(aws, "ec2.DescribeNatGateways", "NatGateways", "NatGatewayId")
    found["ec2.DescribeVpcEndpoints"] = _living(
        aws, "ec2.DescribeVpcEndpoints", "VpcEndpoints", "VpcEndpointId"
    )
    found["ec2.DescribeInstances"] = _instances(aws)
    found["sqs.ListQueues"] = sorted(aws.call("sqs.ListQueues").get("QueueUrls", []))
    found["wafv2.ListWebACLs"] = [
        acl["Id"] for acl in aws.call("wafv2.ListWebACLs", Scope="REGIONAL").get("WebACLs", [])
    ]
    found["kms.ListKeys"] = _keys(aws)
    return found


@pytest.fixture(scope="session")
def account() -> Callable[[Aws], Account]:
    """What there is, by ids and names, of everything that a stack may be made of."""
    return _account
