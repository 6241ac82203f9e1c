"""Keys, buckets, web firewalls, topics, flow logs, schedules and warm pools on moto."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet.rehearsal.resources import handler_of
from fleet.rehearsal.resources.errors import ArgumentUnmappedError

ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": "*"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [ALLOW]})
SEEN = {"cloudwatchMetricsEnabled": True, "metricName": "acl", "sampledRequestsEnabled": True}
RATE = {
    "name": "rate",
    "priority": 1,
    "action": {"block": {}},
    "statement": {"rateBasedStatement": {"limit": 1000, "aggregateKeyType": "IP"}},
    "visibilityConfig": SEEN,
}
MANAGED = {
    "name": "common",
    "priority": 2,
    "overrideAction": {"none": {}},
    "statement": {"managedRuleGroupStatement": {"vendorName": "AWS", "name": "AWSManagedRulesCommonRuleSet"}},
    "visibilityConfig": SEEN,
}


def key_alias(bench: Any) -> dict[str, Any]:
    return {"targetKeyId": bench.make("kms/key:Key", "key")}


def in_bucket(**inputs: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda bench: {"bucket": bench.make("s3/bucket:Bucket", "logs"), **inputs}


def web_acl(bench: Any) -> dict[str, Any]:
    rules = [RATE, MANAGED]
    return {"scope": "REGIONAL", "defaultAction": {"allow": {}}, "rules": rules, "visibilityConfig": SEEN}


def acl_arn(bench: Any) -> str:
    bench.make("wafv2/webAcl:WebAcl", "acl", **web_acl(bench))
    return str(bench.outputs("wafv2/webAcl:WebAcl", "acl")["arn"])


def acl_association(bench: Any) -> dict[str, Any]:
    return {"webAclArn": acl_arn(bench), "resourceArn": bench.balancer()[0]}


def acl_logging(bench: Any) -> dict[str, Any]:
    group = "arn:aws:logs:us-east-1:123456789012:log-group:aws-waf-logs-it"
    return {"resourceArn": acl_arn(bench), "logDestinationConfigs": [group]}


def topic_policy(bench: Any) -> dict[str, Any]:
    return {"arn": bench.make("sns/topic:Topic", "alarms"), "policy": POLICY}


def subscription(bench: Any) -> dict[str, Any]:
    queue = "arn:aws:sqs:us-east-1:123456789012:jobs"
    return {"topic": bench.make("sns/topic:Topic", "alarms"), "protocol": "sqs", "endpoint": queue}


def flow_log(bench: Any) -> dict[str, Any]:
    bucket = bench.make("s3/bucket:Bucket", "flows")
    to = {"logDestinationType": "s3", "logDestination": f"arn:aws:s3:::{bucket}"}
    return {"vpcId": bench.network()[0], "trafficType": "ALL", "maxAggregationInterval": 60, **to}


def schedule(bench: Any) -> dict[str, Any]:
    sizes = {"minSize": -1, "maxSize": -1, "desiredCapacity": 0}
    named = {"autoscalingGroupName": bench.group(), "scheduledActionName": "night"}
    return {**named, "recurrence": "0 22 * * *", "timeZone": "Europe/Berlin", **sizes}


def metric_filter(bench: Any) -> dict[str, Any]:
    group = bench.make("cloudwatch/logGroup:LogGroup", "logs")
    counted = {"name": "Lost", "namespace": "Test", "value": "1"}
    return {"logGroupName": group, "pattern": '{ $.event = "x" }', "metricTransformation": counted}


def plain(**inputs: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda _bench: inputs


TYPES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "kms/key:Key": plain(description="disks", enableKeyRotation=True, tags={"a": "b"}),
    "kms/alias:Alias": key_alias,
    "s3/bucket:Bucket": plain(tags={"a": "b"}),
    "s3/bucketPolicy:BucketPolicy": in_bucket(policy=POLICY),
    "s3/bucketPublicAccessBlock:BucketPublicAccessBlock": in_bucket(blockPublicAcls=True),
    "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": in_bucket(
        rules=[{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]
    ),
    "s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": in_bucket(
        rules=[{"id": "old", "status": "Enabled", "expiration": {"days": 30}}]
    ),
    "s3/bucketOwnershipControls:BucketOwnershipControls": in_bucket(
        rule={"objectOwnership": "BucketOwnerEnforced"}
    ),
    "s3/bucketVersioning:BucketVersioning": in_bucket(versioningConfiguration={"status": "Enabled"}),
    "wafv2/webAcl:WebAcl": web_acl,
    "wafv2/ipSet:IpSet": plain(scope="REGIONAL", ipAddressVersion="IPV4", addresses=["10.0.0.0/8"]),
    "wafv2/webAclAssociation:WebAclAssociation": acl_association,
    "wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": acl_logging,
    "sns/topic:Topic": plain(displayName="alarms", tags={"a": "b"}),
    "sns/topicPolicy:TopicPolicy": topic_policy,
    "sns/topicSubscription:TopicSubscription": subscription,
    "ec2/flowLog:FlowLog": flow_log,
    "autoscaling/schedule:Schedule": schedule,
    "cloudwatch/logMetricFilter:LogMetricFilter": metric_filter,
}
# AWS has no versioning that was never on; it can only be suspended.
STAYS = frozenset({"s3/bucketVersioning:BucketVersioning"})


@pytest.mark.parametrize("kind", TYPES)
def test_what_was_made_is_found_again_and_gone_once_deleted(kind, bench) -> None:
    """After a kill, the recorded name or mark tells whether a resource exists."""
    identity = bench.make(kind, "it", **TYPES[kind](bench))
    assert bench.find(kind, "it") == identity
    bench.outputs(kind, "it")
    bench.delete(kind, "it")
    assert (bench.find(kind, "it") is None) == (kind not in STAYS)


def test_key_updates_reach_aws(bench) -> None:
    """Rotation, description, policy, tags and whether it is enabled change in place."""
    key = bench.make("kms/key:Key", "it", description="a", tags={"a": "b"})
    bench.change("kms/key:Key", "it", description="b", enableKeyRotation=True, tags={"c": "d"})
    bench.change("kms/key:Key", "it", isEnabled=False, policy=POLICY)
    found = bench.call("kms.DescribeKey", KeyId=key)["KeyMetadata"]
    assert (found["Description"], found["Enabled"]) == ("b", False)
    assert bench.call("kms.GetKeyRotationStatus", KeyId=key)["KeyRotationEnabled"]
    tags = bench.call("kms.ListResourceTags", KeyId=key)["Tags"]
    assert {"TagKey": "c", "TagValue": "d"} in tags
    assert "a" not in [tag["TagKey"] for tag in tags]


def test_an_alias_moves_to_another_key(bench) -> None:
    """Its name begins with alias/, whether the program says so or not."""
    name = bench.make("kms/alias:Alias", "it", **key_alias(bench))
    other = bench.make("kms/key:Key", "other")
    bench.change("kms/alias:Alias", "it", targetKeyId=other)
    (found,) = [a for a in bench.call("kms.ListAliases")["Aliases"] if a["AliasName"] == name]
    assert (name, found["TargetKeyId"]) == ("alias/it-0123456", other)


def test_a_bucket_with_objects_goes_only_when_it_is_forced(bench) -> None:
    """force_destroy empties it of every version first."""
    name = bench.make("s3/bucket:Bucket", "it")
    bench.call("s3.PutObject", Bucket=name, Key="k", Body=b"x")
    with pytest.raises(Exception, match="BucketNotEmpty"):
        bench.delete("s3/bucket:Bucket", "it")
    bench.change("s3/bucket:Bucket", "it", forceDestroy=True, tags={"c": "d"})
    assert bench.call("s3.GetBucketTagging", Bucket=name)["TagSet"] == [{"Key": "c", "Value": "d"}]
    bench.delete("s3/bucket:Bucket", "it")
    assert bench.call("s3.ListBuckets")["Buckets"] == []


def test_an_acls_rules_change_in_place(bench) -> None:
    """Each change needs the token of the version that it changes."""
    identity = bench.make("wafv2/webAcl:WebAcl", "it", **web_acl(bench))
    bench.change("wafv2/webAcl:WebAcl", "it", rules=[{**RATE, "name": "other"}], tags={"c": "d"})
    bench.change("wafv2/webAcl:WebAcl", "it", defaultAction={"block": {}})
    named = {"Name": "it-0123456", "Scope": "REGIONAL", "Id": identity}
    found = bench.call("wafv2.GetWebACL", **named)["WebACL"]
    assert ([rule["Name"] for rule in found["Rules"]], found["DefaultAction"]) == (["other"], {"Block": {}})


def test_a_mistake_deep_in_an_acl_is_named(bench) -> None:
    """A rule's statements are checked by WAF's own shape."""
    bad = {**RATE, "statement": {"rateBasedStatement": {"limit": 1000, "mood": "good"}}}
    with pytest.raises(ArgumentUnmappedError, match=r"rules\[0\].statement.rateBasedStatement.mood"):
        handler_of("aws:wafv2/webAcl:WebAcl").check(bench.aws, {**web_acl(bench), "rules": [bad]})


def test_topics_and_subscriptions_change_in_place(bench) -> None:
    """Their attributes follow the program."""
    arn = bench.make("sns/topicSubscription:TopicSubscription", "it", **subscription(bench))
    bench.change("sns/topicSubscription:TopicSubscription", "it", rawMessageDelivery=True)
    found = bench.call("sns.GetSubscriptionAttributes", SubscriptionArn=arn)["Attributes"]
    assert found["RawMessageDelivery"] == "true"
    bench.change("sns/topic:Topic", "alarms", displayName="new", tags={"c": "d"})
    topic = bench.wants["alarms"][0]
    assert bench.call("sns.GetTopicAttributes", TopicArn=topic)["Attributes"]["DisplayName"] == "new"
    assert bench.call("sns.ListTagsForResource", ResourceArn=topic)["Tags"] == [{"Key": "c", "Value": "d"}]


def test_a_schedule_leaves_sizes_alone_that_it_does_not_name(bench) -> None:
    """-1 is pulumi-aws's word for it; AWS takes no such size."""
    bench.make("autoscaling/schedule:Schedule", "it", **schedule(bench))
    bench.change("autoscaling/schedule:Schedule", "it", desiredCapacity=2)
    (found,) = bench.call("autoscaling.DescribeScheduledActions")["ScheduledUpdateGroupActions"]
    assert (found["DesiredCapacity"], found.get("MinSize")) == (2, None)


def test_a_warm_pool_comes_changes_and_goes_with_its_group(bench) -> None:
    """It is an argument of the group, and calls of its own to AWS."""
    kind, name = "autoscaling/group:Group", bench.group()
    wants = bench.wants["fleet"]
    for pool in ({"minSize": 1, "poolState": "Stopped"}, {"minSize": 2, "poolState": "Hibernated"}):
        bench.change(kind, "fleet", warmPool=pool)
        found = bench.call("autoscaling.DescribeWarmPool", AutoScalingGroupName=name)["WarmPoolConfiguration"]
        assert (found["MinSize"], found["PoolState"]) == (pool["minSize"], pool["poolState"])
    bench.change(kind, "fleet", warmPool=None)
    assert not bench.call("autoscaling.DescribeWarmPool", AutoScalingGroupName=name).get(
        "WarmPoolConfiguration"
    )
    assert bench.wants["fleet"][0] == wants[0]
