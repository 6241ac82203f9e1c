"""Gaps of moto 5.2.5 in Auto Scaling groups: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Plain


def refusal(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_warmup_and_maintenance_policy_are_kept(plain: Plain, emulate: Emulate) -> None:
    """DefaultInstanceWarmup and InstanceMaintenancePolicy survive create and update."""

    def create(aws: Aws) -> dict[str, Any]:
        aws.make_group(
            DefaultInstanceWarmup=60,
            InstanceMaintenancePolicy={"MinHealthyPercentage": 90, "MaxHealthyPercentage": 120},
        )
        found = aws.group()
        return {key: found.get(key) for key in ("DefaultInstanceWarmup", "InstanceMaintenancePolicy")}

    with plain() as aws:
        assert set(create(aws).values()) == {None}
    with emulate() as aws:
        assert create(aws)["DefaultInstanceWarmup"] == 60
        aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", DefaultInstanceWarmup=90)
        assert aws.group()["DefaultInstanceWarmup"] == 90
        assert aws.group()["InstanceMaintenancePolicy"]["MaxHealthyPercentage"] == 120


def test_hooks_given_at_creation_exist(plain: Plain, emulate: Emulate) -> None:
    """LifecycleHookSpecificationList makes hooks, with their notification metadata."""

    def hooks(aws: Aws) -> list[Any]:
        aws.make_group(LifecycleHookSpecificationList=[aws.hook])
        return list(aws.asg.describe_lifecycle_hooks(AutoScalingGroupName="group")["LifecycleHooks"])

    with plain() as aws:
        assert hooks(aws) == []
    with emulate() as aws:
        (hook,) = hooks(aws)
        assert hook["NotificationMetadata"] == "for the drain"
        assert hook["HeartbeatTimeout"] == 60


def test_hook_metadata_is_kept(plain: Plain, emulate: Emulate) -> None:
    """PutLifecycleHook keeps NotificationMetadata and invents no notification target."""

    def hook(aws: Aws) -> dict[str, Any]:
        aws.make_group(DesiredCapacity=0)
        aws.asg.put_lifecycle_hook(AutoScalingGroupName="group", **aws.hook)
        return dict(aws.asg.describe_lifecycle_hooks(AutoScalingGroupName="group")["LifecycleHooks"][0])

    with plain() as aws:
        found = hook(aws)
        assert "NotificationMetadata" not in found
        assert "NotificationTargetARN" in found
    with emulate() as aws:
        found = hook(aws)
        assert found["NotificationMetadata"] == "for the drain"
        assert "NotificationTargetARN" not in found


def test_an_update_keeps_the_mixed_policy(plain: Plain, emulate: Emulate) -> None:
    """An update without the mixed policy leaves it, and one with a part of it changes that part only."""

    def policy_after_update(aws: Aws) -> Any:
        aws.make_group(MixedInstancesPolicy=aws.mixed())
        aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", MinSize=1)
        return aws.group().get("MixedInstancesPolicy")

    with plain() as aws:
        assert policy_after_update(aws) is None
    with emulate() as aws:
        assert policy_after_update(aws)["InstancesDistribution"]["OnDemandBaseCapacity"] == 1
        aws.asg.update_auto_scaling_group(
            AutoScalingGroupName="group",
            MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": 2}},
        )
        kept = aws.group()["MixedInstancesPolicy"]
        assert kept["InstancesDistribution"]["OnDemandBaseCapacity"] == 2
        assert kept["InstancesDistribution"]["SpotAllocationStrategy"] == "price-capacity-optimized"
        assert kept["LaunchTemplate"]["Overrides"] == [{"InstanceType": "g5.xlarge"}]


def test_capacity_rebalance_can_be_changed(plain: Plain, emulate: Emulate) -> None:
    """UpdateAutoScalingGroup changes CapacityRebalance."""

    def after_update(aws: Aws) -> bool:
        aws.make_group(CapacityRebalance=True)
        aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", CapacityRebalance=False)
        return bool(aws.group()["CapacityRebalance"])

    with plain() as aws:
        assert after_update(aws)
    with emulate() as aws:
        assert not after_update(aws)


def _bogus_strategy(aws: Aws) -> None:
    policy = aws.mixed()
    policy["InstancesDistribution"]["SpotAllocationStrategy"] = "bogus"
    aws.make_group(MixedInstancesPolicy=policy)


def _unknown_version(aws: Aws) -> None:
    aws.make_group(DesiredCapacity=0, LaunchTemplate={"LaunchTemplateId": aws.template, "Version": "9"})


def _unknown_image(aws: Aws) -> None:
    template = aws.make_template("other", ImageId="ami-00000000000000000")
    aws.make_group(LaunchTemplate={"LaunchTemplateId": template, "Version": "1"})


def _unknown_target_group(aws: Aws) -> None:
    arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/none/0123456789abcdef"
    aws.make_group(DesiredCapacity=0, TargetGroupARNs=[arn])


def _min_above_max(aws: Aws) -> None:
    aws.make_group(MinSize=3, MaxSize=2, DesiredCapacity=0)


def _desired_above_max(aws: Aws) -> None:
    aws.make_group(DesiredCapacity=0)
    aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=9)


def _twice(aws: Aws) -> None:
    aws.make_group(DesiredCapacity=0)
    aws.make_group(DesiredCapacity=0)


def _delete_with_members(aws: Aws) -> None:
    aws.make_group()
    if hasattr(aws, "tick"):
        aws.tick()
    aws.asg.delete_auto_scaling_group(AutoScalingGroupName="group")


def _policy_without_label(aws: Aws) -> None:
    aws.make_group(DesiredCapacity=0)
    aws.asg.put_scaling_policy(
        AutoScalingGroupName="group",
        PolicyName="requests",
        PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={
            "TargetValue": 1.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ALBRequestCountPerTarget"},
        },
    )


def _policy_of_no_group(aws: Aws) -> None:
    aws.asg.put_scaling_policy(AutoScalingGroupName="none", PolicyName="cpu", PolicyType="SimpleScaling")


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (_bogus_strategy, "ValidationError"),
        (_unknown_version, "ValidationError"),
        (_unknown_image, "ValidationError"),
        (_unknown_target_group, "ValidationError"),
        (_min_above_max, "ValidationError"),
        (_desired_above_max, "ValidationError"),
        (_twice, "AlreadyExists"),
        (_delete_with_members, "ResourceInUse"),
        (_policy_without_label, "ValidationError"),
        (_policy_of_no_group, "ValidationError"),
    ],
)
def test_impossible_requests_are_refused(plain: Plain, emulate: Emulate, ask: Any, code: str) -> None:
    """What AWS refuses and plain moto accepts is refused with AWS's code."""
    with plain() as aws:
        if ask is _unknown_target_group:  # moto fails here, but as not found
            with pytest.raises(ClientError) as error:
                ask(aws)
            assert refusal(error) == "TargetGroupNotFound"
        else:
            ask(aws)
    with emulate() as aws, pytest.raises(ClientError) as error:
        ask(aws)
    assert refusal(error) == code


def test_a_refused_update_changes_nothing(emulate: Emulate) -> None:
    """An update that AWS refuses leaves the group as it was."""
    with emulate() as aws:
        aws.make_group(MixedInstancesPolicy=aws.mixed())
        before = aws.group()
        policy = aws.mixed()
        policy["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] = "9"
        with pytest.raises(ClientError):
            aws.asg.update_auto_scaling_group(
                AutoScalingGroupName="group", MixedInstancesPolicy=policy, MinSize=1
            )
        assert aws.group() == before


def test_what_is_not_emulated_is_refused(emulate: Emulate) -> None:
    """Unknown subnets, unpriced types and groups without subnets are refused, never ignored."""
    with emulate() as aws:
        for fields in (
            {"MixedInstancesPolicy": aws.mixed(types=("zz9.huge",))},
            {"VPCZoneIdentifier": "subnet-00000000000000000"},
            {"VPCZoneIdentifier": None, "AvailabilityZones": ["us-east-1a"]},
        ):
            with pytest.raises(ClientError) as error:
                aws.make_group(**fields)
            assert refusal(error) == "ValidationError"
        assert aws.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_mixed_groups_buy_spot_over_zones(plain: Plain, emulate: Emulate) -> None:
    """A mixed group keeps its split, marks spot instances and spreads over the zones."""

    def bought(aws: Aws) -> tuple[Counter[str], int]:
        aws.make_group(DesiredCapacity=6, MixedInstancesPolicy=aws.mixed(1, 20, ("g4dn.xlarge", "g5.xlarge")))
        if hasattr(aws, "tick"):
            aws.tick()
        found = [aws.instance(one) for one in aws.members()]
        zones = {one["Placement"]["AvailabilityZone"] for one in found}
        assert all(
            ("SpotInstanceRequestId" in one) == (one.get("InstanceLifecycle") == "spot") for one in found
        )
        return Counter(one.get("InstanceLifecycle", "on-demand") for one in found), len(zones)

    with plain() as aws:
        assert bought(aws) == (Counter({"on-demand": 6}), 1)
    with emulate() as aws:
        assert bought(aws) == (Counter({"on-demand": 2, "spot": 4}), 3)


def test_members_have_what_the_template_says(plain: Plain, emulate: Emulate) -> None:
    """Metadata options and the template version reach members, and user data of a later version too."""

    def launch(aws: Aws) -> tuple[str, str]:
        aws.ec2.create_launch_template_version(
            LaunchTemplateId=aws.template,
            LaunchTemplateData={
                "ImageId": aws.image,
                "InstanceType": "g5.xlarge",
                "UserData": base64.b64encode(b"second").decode(),
                "MetadataOptions": {"HttpTokens": "required"},
            },
        )
        aws.make_group(LaunchTemplate={"LaunchTemplateId": aws.template, "Version": "2"})
        if hasattr(aws, "tick"):
            aws.tick()
        (member,) = aws.group()["Instances"]
        options = aws.instance(member["InstanceId"])["MetadataOptions"]
        return str(options["HttpTokens"]), str(member["LaunchTemplate"]["Version"])

    with plain() as aws, pytest.raises(AssertionError):
        launch(aws)  # moto keeps the user data of version 2 as plain text, then asserts that it is not
    with emulate() as aws:
        assert launch(aws) == ("required", "2")
        assert aws.cloud.instances()[0].user_data == "second"


def test_activities_are_told(plain: Plain, emulate: Emulate) -> None:
    """DescribeScalingActivities lists launches in AWS's wording."""

    def activities(aws: Aws) -> list[Any]:
        aws.make_group()
        if hasattr(aws, "tick"):
            aws.tick()
        return aws.activities()

    with plain() as aws:
        assert activities(aws) == []
    with emulate() as aws:
        (activity,) = activities(aws)
        (instance_id,) = aws.members()
        assert activity["Description"] == f"Launching a new EC2 instance: {instance_id}"
        assert activity["StatusCode"] == "PreInService"
        assert "increasing the capacity from 0 to 1." in activity["Cause"]


def test_policies_belong_to_their_group(plain: Plain, emulate: Emulate) -> None:
    """Two groups may have a policy of one name, and target tracking makes two alarms."""

    def put(aws: Aws) -> list[Any]:
        for name in ("one", "two"):
            aws.make_group(name, DesiredCapacity=0)
            aws.asg.put_scaling_policy(
                AutoScalingGroupName=name,
                PolicyName="cpu",
                PolicyType="TargetTrackingScaling",
                TargetTrackingConfiguration={
                    "TargetValue": 70.0,
                    "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
                },
            )
        return list(aws.asg.describe_policies()["ScalingPolicies"])

    with plain() as aws:
        assert [one["AutoScalingGroupName"] for one in put(aws)] == ["two"]
    with emulate() as aws:
        found = put(aws)
        assert [one["AutoScalingGroupName"] for one in found] == ["one", "two"]
        assert [len(one["Alarms"]) for one in found] == [2, 2]
        aws.asg.delete_policy(AutoScalingGroupName="one", PolicyName="cpu")
        left = aws.asg.describe_policies()["ScalingPolicies"]
        assert [one["AutoScalingGroupName"] for one in left] == ["two"]
