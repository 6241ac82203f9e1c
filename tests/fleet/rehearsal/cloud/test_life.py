"""The whole life of a spot group under a fake clock, with real nodes behind its target group."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from fleet.rehearsal.cloud import NoMetrics

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Emulated, Plain


def up(aws: Emulated, desired: int = 3, **fields: Any) -> str:
    """One on-demand member and the rest spot, behind a load balancer, all healthy."""
    arn = aws.make_target_group()
    aws.make_group(
        **{
            "MinSize": 1,
            "MaxSize": 6,
            "DesiredCapacity": desired,
            "MixedInstancesPolicy": aws.mixed(1, 0, ("g4dn.xlarge", "g5.xlarge")),
            "TargetGroupARNs": [arn],
            "HealthCheckType": "ELB",
            "HealthCheckGracePeriod": 10,
            **fields,
        }
    )
    aws.settle()
    assert healthy(aws, arn) == desired
    return arn


def healthy(aws: Emulated, arn: str) -> int:
    return sum(1 for one in aws.cloud.targets(arn) if one.state == "healthy")


def until(aws: Emulated, done: Any, seconds: float = 60.0) -> None:
    """Move on by half seconds until `done()`, at most so many seconds of the fake clock."""
    for _ in range(int(seconds * 2)):
        if done():
            return
        aws.tick(0.5)
    pytest.fail(f"not in {seconds} s: {aws.members()}")


def test_an_interrupted_member_is_detached_replaced_and_taken(aws: Emulated) -> None:
    """Notice, detach without decrement, replacement healthy before the instance is taken away."""
    arn = up(aws)
    instance_id = aws.one("spot")
    aws.cloud.interrupt(instance_id)
    aws.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": instance_id}])
    aws.asg.detach_instances(
        AutoScalingGroupName="group", InstanceIds=[instance_id], ShouldDecrementDesiredCapacity=False
    )
    until(aws, lambda: healthy(aws, arn) == 3, 5)
    assert aws.nodes.killed_ids == []
    aws.tick(12.0)
    assert aws.nodes.killed_ids == [instance_id]
    assert aws.service_options() == ["on-demand", "spot", "spot"]
    kinds = aws.kinds(instance_id)
    story = ["notice.interruption", "target.draining", "lifecycle.Detached", "instance.terminated"]
    assert [kind for kind in kinds if kind in story] == story


def test_an_unattended_interruption_is_found_out(aws: Emulated) -> None:
    """With nobody to act the group replaces the member once EC2 says that it is gone."""
    arn = up(aws)
    instance_id = aws.one("spot")
    aws.cloud.interrupt(instance_id)
    aws.tick(12.1)
    until(aws, lambda: healthy(aws, arn) == 3, 10)
    assert instance_id not in aws.members()


def test_a_storm_keeps_the_split(aws: Emulated) -> None:
    """Half the spot members taken at once: the group comes back to its size and its split."""
    arn = up(aws, desired=5)
    spot = [one.instance_id for one in aws.cloud.instances() if one.purchase_option == "spot"]
    for instance_id in spot[:2]:
        aws.cloud.interrupt(instance_id)
    aws.tick(12.1)
    until(aws, lambda: healthy(aws, arn) == 5, 10)
    assert Counter(aws.service_options()) == {"on-demand": 1, "spot": 4}


def test_rebalance_replaces_before_it_ends(aws: Emulated) -> None:
    """Capacity rebalancing launches first, and ends the old member once the new one is healthy."""
    arn = up(aws, CapacityRebalance=True, LifecycleHookSpecificationList=[aws.hook])
    instance_id = aws.one("spot")
    aws.cloud.recommend_rebalance(instance_id)
    least = 3
    for _ in range(6):
        aws.tick(0.5)
        least = min(least, healthy(aws, arn))
    assert least == 3
    assert aws.members()[instance_id] == "Terminating"
    assert aws.nodes.killed_ids == []
    until(aws, lambda: instance_id in aws.nodes.killed_ids, 20)
    assert healthy(aws, arn) == 3


def test_without_rebalancing_a_recommendation_is_only_told(aws: Emulated) -> None:
    """A group that does not rebalance ignores the recommendation."""
    up(aws)
    before = aws.members()
    aws.cloud.recommend_rebalance(aws.one("spot"))
    aws.tick(0.5, times=10)
    assert aws.members() == before


def test_a_dry_market_is_told_and_retried(aws: Emulated) -> None:
    """Without spot capacity launches fail in AWS's words, nothing is bought instead, and they are retried."""
    arn = up(aws)
    aws.cloud.market.dry()
    aws.ec2.terminate_instances(InstanceIds=[aws.one("spot")])
    aws.tick(0.5, times=4)
    failed = [one for one in aws.activities() if one["StatusCode"] == "Failed"]
    assert len(failed) == 1
    assert "Could not launch Spot Instances. UnfulfillableCapacity" in failed[0]["StatusMessage"]
    assert failed[0]["Description"].endswith("Launching EC2 instance failed.")
    assert aws.service_options() == ["on-demand", "spot"]
    aws.tick(6.1)
    assert sum(1 for one in aws.activities() if one["StatusCode"] == "Failed") == 2
    aws.cloud.market.refill()
    until(aws, lambda: healthy(aws, arn) == 3, 20)
    assert aws.service_options() == ["on-demand", "spot", "spot"]


def test_a_higher_base_launches_before_it_ends(aws: Emulated) -> None:
    """Raising the on-demand base replaces spot members one after the other, never going below size."""
    arn = up(aws)
    distribution = {"InstancesDistribution": {"OnDemandBaseCapacity": 3}}
    aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", MixedInstancesPolicy=distribution)
    least = 3
    for _ in itertools.repeat(None, 40):
        aws.tick(0.5)
        least = min(least, healthy(aws, arn))
    assert least == 3
    assert aws.service_options() == ["on-demand"] * 3


def test_a_template_change_rolls_through(aws: Emulated) -> None:
    """A new template version and a refresh: every member is replaced, split kept, minimum kept."""
    arn = up(aws, LifecycleHookSpecificationList=[aws.hook], DefaultInstanceWarmup=0)
    image = aws.cloud.register_image("model", "rehearsal", "dev")
    aws.ec2.create_launch_template_version(
        LaunchTemplateId=aws.template, LaunchTemplateData={"ImageId": image, "InstanceType": "g5.xlarge"}
    )
    policy = aws.mixed(1, 0, ("g4dn.xlarge", "g5.xlarge"))
    policy["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] = "2"
    aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", MixedInstancesPolicy=policy)
    aws.asg.start_instance_refresh(
        AutoScalingGroupName="group", Preferences={"MinHealthyPercentage": 60, "SkipMatching": True}
    )
    least, refreshed = 3, False
    for _ in itertools.repeat(None, 160):
        aws.tick(0.5)
        least = min(least, healthy(aws, arn))
        found = aws.asg.describe_instance_refreshes(AutoScalingGroupName="group")["InstanceRefreshes"]
        refreshed = found[0]["Status"] == "Successful"
        if refreshed:
            break
    assert refreshed
    assert least == 2
    live = [one for one in aws.cloud.instances() if one.lifecycle_state == "InService"]
    assert {one.image_id for one in live} == {image}
    assert aws.service_options() == ["on-demand", "spot", "spot"]


def test_destroy_leaves_nothing(aws: Emulated) -> None:
    """ForceDelete ends every instance at once, hooks or not; their addresses answer no more."""
    arn = up(aws, LifecycleHookSpecificationList=[aws.hook])
    aws.asg.delete_auto_scaling_group(AutoScalingGroupName="group", ForceDelete=True)
    assert sorted(aws.nodes.killed_ids) == sorted(one.instance_id for one in aws.nodes.launched_views)
    assert aws.cloud.instances() == []
    assert aws.cloud.groups() == []
    aws.tick(6.1)
    assert aws.cloud.targets(arn) == []


class Load(NoMetrics):
    """CPU as the test says."""

    with_published = True

    def __init__(self) -> None:
        self.percent: float | None = None

    def cpu(self, instance_id: str) -> float | None:
        return self.percent


def track_cpu(aws: Aws) -> None:
    aws.asg.put_scaling_policy(
        AutoScalingGroupName="group",
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        EstimatedInstanceWarmup=10,
        TargetTrackingConfiguration={
            "TargetValue": 50.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
        },
    )


def test_target_tracking_acts(plain: Plain, emulate: Emulate) -> None:
    """Above the target for three scaled minutes the group grows, below it for fifteen it shrinks."""
    with plain() as aws:
        aws.make_group(DesiredCapacity=2)
        track_cpu(aws)
        dimension = [{"Name": "AutoScalingGroupName", "Value": "group"}]
        datum = {"MetricName": "CPUUtilization", "Dimensions": dimension, "Value": 99.0}
        aws.cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=[datum])
        assert aws.group()["DesiredCapacity"] == 2
        assert aws.cloudwatch.describe_alarms()["MetricAlarms"] == []
    with emulate() as aws:
        up(aws, desired=2, MaxSize=4)
        track_cpu(aws)
        load = Load()
        aws.cloud.use_metrics(load)
        aws.tick(20.0, times=2)
        assert aws.group()["DesiredCapacity"] == 2
        load.percent = 100.0
        aws.tick(1.0)
        aws.tick(17.5)
        assert aws.group()["DesiredCapacity"] == 2
        aws.tick(1.0)
        assert aws.group()["DesiredCapacity"] == 4
        load.percent = 1.0
        aws.tick(10.0, times=3)
        assert aws.group()["DesiredCapacity"] == 4
        aws.tick(10.0, times=10)
        assert aws.group()["DesiredCapacity"] == 1


def test_custom_metrics_are_tracked(aws: Emulated) -> None:
    """A policy on a metric of ours acts on the values of PutMetricData."""
    up(aws, desired=1, MaxSize=3)
    aws.cloud.use_metrics(Load())
    aws.asg.put_scaling_policy(
        AutoScalingGroupName="group",
        PolicyName="in-flight",
        PolicyType="TargetTrackingScaling",
        EstimatedInstanceWarmup=0,
        TargetTrackingConfiguration={
            "TargetValue": 4.0,
            "CustomizedMetricSpecification": {
                "Namespace": "Goldenfleet",
                "MetricName": "InFlight",
                "Statistic": "Average",
            },
        },
    )
    for _ in itertools.repeat(None, 5):
        datum = {"MetricName": "InFlight", "Value": 8.0, "Timestamp": aws.clock.now}
        aws.cloudwatch.put_metric_data(Namespace="Goldenfleet", MetricData=[datum])
        aws.tick(5.0)
    assert aws.group()["DesiredCapacity"] == 2
