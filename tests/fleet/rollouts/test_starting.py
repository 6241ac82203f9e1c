"""Rollouts that begin, or need not, on the emulated cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from fleet.rollouts.errors import RolloutRefused
from fleet.rollouts.starting import Begun, Patience, Wish, roll_out

if TYPE_CHECKING:
    from tests.fleet.rollouts.conftest import Fleet

CAREFUL = {
    "minHealthyPercentage": 100,
    "maxHealthyPercentage": 110,
    "checkpointPercentages": [30, 100],
    "checkpointDelay": "600",
    "bakeTime": 60,
    "skipMatching": True,
    "autoRollback": "true",
}
"""As pulumi-aws spells them."""


def wish(fleet: Fleet, version: str, **more: Any) -> Wish:
    return Wish("model", {"mixedInstancesPolicy": fleet.policy(version=version)}, {**CAREFUL, **more})


def begin(fleet: Fleet, version: str, **more: Any) -> Begun:
    """Whoever waits lets time pass."""
    return roll_out(
        fleet.client, wish(fleet, version, **more), None, Patience(fleet.clock, lambda _: fleet.tick())
    )


def test_a_rollout_of_a_group_that_is_not_there_says_so(fleet: Fleet) -> None:
    """As it does of whatever else AWS refuses."""
    fleet.tier()
    with pytest.raises(RolloutRefused, match="no Auto Scaling group nobody"):
        roll_out(fleet.client, Wish("nobody", wish(fleet, "1").configuration, {}))
    with pytest.raises(RolloutRefused, match="specified version 7"):
        begin(fleet, "7")


def test_a_new_version_is_rolled_out_with_all_that_was_asked(fleet: Fleet) -> None:
    """The refresh goes towards it; the group says what it said, so that AWS can go back to it."""
    fleet.tier()
    begun = begin(fleet, fleet.version())
    (refresh,) = fleet.refreshes()
    assert refresh["InstanceRefreshId"] == begun.refresh
    assert refresh["Preferences"] == {
        "MinHealthyPercentage": 100,
        "MaxHealthyPercentage": 110,
        "CheckpointPercentages": [30, 100],
        "CheckpointDelay": 600,
        "BakeTime": 60,
        "SkipMatching": True,
        "AutoRollback": True,
    }
    assert (
        fleet.group()["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"]
        == "1"
    )


def test_what_runs_already_or_is_on_its_way_is_not_begun_again(fleet: Fleet) -> None:
    """Neither a wish that the group fulfils, nor one that a refresh goes towards."""
    fleet.tier()
    assert begin(fleet, "1") == Begun()
    version = fleet.version()
    begin(fleet, version)
    fleet.tick(2)
    assert begin(fleet, version) == Begun()
    assert fleet.statuses() == ["InProgress"]


def test_a_newer_wish_replaces_a_rollout_that_runs(fleet: Fleet) -> None:
    """The one before is cancelled first, and the way back stays where it was."""
    fleet.tier()
    begin(fleet, fleet.version())
    fleet.tick(6)
    newest = fleet.version()
    begin(fleet, newest)
    assert fleet.statuses() == ["Pending", "Cancelled"]
    fleet.tick(200)
    assert (fleet.statuses()[0], fleet.versions()) == ("Successful", [newest] * 3)


def test_wishing_back_what_the_group_says_rolls_back_what_runs(fleet: Fleet) -> None:
    """Nothing is begun: what was replaced is replaced again."""
    fleet.tier()
    begin(fleet, fleet.version(), checkpointDelay=3600)
    fleet.tick(20)
    assert fleet.versions() == ["1", "1", "2"]
    begin(fleet, "1")
    fleet.tick(60)
    assert (fleet.statuses(), fleet.versions()) == (["RollbackSuccessful"], ["1"] * 3)


@pytest.mark.parametrize("wished", ["1", "2"])
def test_a_wish_while_a_rollout_is_being_cancelled_waits_for_its_end(fleet: Fleet, wished: str) -> None:
    """What is being cancelled can neither be cancelled again nor rolled back."""
    fleet.tier()
    begin(fleet, fleet.version())
    fleet.tick(16)
    assert "2" in fleet.versions()
    fleet.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName="model",
        LifecycleHookName="drain",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=60,
    )
    asg = fleet.client("autoscaling")
    asg.terminate_instance_in_auto_scaling_group(
        InstanceId=fleet.group()["Instances"][0]["InstanceId"], ShouldDecrementDesiredCapacity=False
    )
    asg.cancel_instance_refresh(AutoScalingGroupName="model")
    fleet.tick()
    assert fleet.statuses() == ["Cancelling"]
    begin(fleet, wished)
    assert fleet.statuses() == ["Pending", "Cancelled"]


def test_nodes_that_are_on_their_way_out_are_no_reason_for_another_rollout(fleet: Fleet) -> None:
    """After a rollback some of them drain for minutes yet."""
    fleet.tier()
    fleet.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName="model",
        LifecycleHookName="drain",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=3600,
    )
    begin(fleet, fleet.version(), checkpointDelay=3600)
    fleet.tick(20)
    fleet.client("autoscaling").rollback_instance_refresh(AutoScalingGroupName="model")
    fleet.tick(20)
    leaving = [one for one in fleet.group()["Instances"] if one["LaunchTemplate"]["Version"] == "2"]
    assert [one["LifecycleState"] for one in leaving] == ["Terminating:Wait"]
    assert fleet.statuses() == ["RollbackSuccessful"]
    assert begin(fleet, "1") == Begun()
    assert fleet.statuses() == ["RollbackSuccessful"]


def test_going_back_to_the_same_content_replaces_no_node(fleet: Fleet) -> None:
    """A version that launches what the group launches is another number and no other node."""
    fleet.tier()
    image = fleet.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=fleet.templates["model"], Versions=["1"]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"]
    fleet.version()
    assert begin(fleet, fleet.version(image=image)) == Begun()
    assert fleet.refreshes() == []


def by_requirements(fleet: Fleet, version: str) -> Wish:
    policy = fleet.policy(version=version)
    least = {"VCpuCount": {"Min": 4}, "MemoryMiB": {"Min": 8192}}
    policy["LaunchTemplate"]["Overrides"] = [{"InstanceRequirements": least}]
    return Wish("model", {"mixedInstancesPolicy": policy}, CAREFUL)


def test_a_group_by_requirements_is_rolled_out_one_way(fleet: Fleet) -> None:
    """AWS takes no desired configuration there, and skips no node: the group changes, its nodes follow."""
    fleet.tier()
    for version in ("1", fleet.version()):
        wished = by_requirements(fleet, version)
        begun = roll_out(fleet.client, wished)
        assert fleet.refreshes()[0]["InstanceRefreshId"] == begun.refresh
        assert not {"AutoRollback", "SkipMatching"} & fleet.refreshes()[0]["Preferences"].keys()
        assert roll_out(fleet.client, wished) == Begun()
        fleet.tick(200)
        assert (fleet.statuses()[0], fleet.versions()) == ("Successful", [version] * 3)
    assert roll_out(fleet.client, wished) == Begun()


def test_a_newer_wish_by_requirements_replaces_what_runs(fleet: Fleet) -> None:
    """AWS changes no group while a refresh has a desired configuration: that ends first."""
    fleet.tier()
    begin(fleet, fleet.version())
    fleet.tick(6)
    newest = fleet.version()
    patience = Patience(fleet.clock, lambda _: fleet.tick())
    roll_out(fleet.client, by_requirements(fleet, newest), None, patience)
    assert fleet.statuses() == ["Pending", "Cancelled"]
    fleet.tick(200)
    assert (fleet.statuses()[0], fleet.versions()) == ("Successful", [newest] * 3)


def test_an_alarm_that_rings_before_is_left_out_and_told(fleet: Fleet) -> None:
    """The others are watched."""
    fleet.tier()
    for name, state in {"lost": "OK", "errors": "ALARM"}.items():
        fleet.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="Goldenfleet",
            MetricName=name,
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        )
        fleet.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
    begun = begin(fleet, fleet.version(), alarmSpecification={"alarms": ["lost", "errors"]})
    assert begun.unwatched == ("errors",)
    assert fleet.refreshes()[0]["Preferences"]["AlarmSpecification"] == {"Alarms": ["lost"]}


def test_a_plain_update_would_leave_nothing_to_go_back_to(fleet: Fleet) -> None:
    """What pulumi-aws's own instanceRefresh does: the group is changed first, and a rollback keeps it so."""
    fleet.tier()
    policy = fleet.policy(version=fleet.version())
    asg = fleet.client("autoscaling")
    asg.update_auto_scaling_group(AutoScalingGroupName="model", MixedInstancesPolicy=policy)
    asg.start_instance_refresh(
        AutoScalingGroupName="model",
        DesiredConfiguration={"MixedInstancesPolicy": policy},
        Preferences={
            "MinHealthyPercentage": 100,
            "MaxHealthyPercentage": 110,
            "AutoRollback": True,
            "CheckpointPercentages": [30, 100],
        },
    )
    fleet.tick(20)
    assert fleet.versions() == ["1", "1", "2"]
    asg.rollback_instance_refresh(AutoScalingGroupName="model")
    fleet.tick(80)
    assert fleet.statuses() == ["RollbackSuccessful"]
    assert "2" in fleet.versions()
    with pytest.raises(ClientError, match="ActiveInstanceRefreshNotFound"):
        asg.rollback_instance_refresh(AutoScalingGroupName="model")
