"""Instance refreshes, of which moto has none: percentages, checkpoints, bake time, alarms, the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulated, Plain

CAREFUL = {
    "MinHealthyPercentage": 100,
    "MaxHealthyPercentage": 110,
    "InstanceWarmup": 0,
    "AutoRollback": True,
    "SkipMatching": True,
}
MOMENT = 0.5  # seconds of the fake clock, of which one is ten of AWS's


def up(aws: Emulated, desired: int = 3, **fields: Any) -> str:
    """A group behind a load balancer, all of it healthy; returns its target group."""
    arn = aws.make_target_group()
    mixed = aws.mixed()
    aws.make_group(
        **{
            "DesiredCapacity": desired,
            "MixedInstancesPolicy": mixed,
            "TargetGroupARNs": [arn],
            "HealthCheckType": "ELB",
            "HealthCheckGracePeriod": 20,
            **fields,
        }
    )
    aws.settle()
    assert serving(aws, arn) == desired
    return arn


def serving(aws: Emulated, arn: str) -> int:
    return sum(1 for one in aws.cloud.targets(arn) if one.state == "healthy")


def desired_policy(aws: Emulated) -> dict[str, Any]:
    """The group's policy with a version 2 of its template, which boots another image."""
    image = aws.cloud.register_image("model", "rehearsal", "dev")
    aws.ec2.create_launch_template_version(
        LaunchTemplateId=aws.template, LaunchTemplateData={"ImageId": image, "InstanceType": "g5.xlarge"}
    )
    policy = dict(aws.mixed())
    policy["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] = "2"
    return policy


def start(aws: Emulated, **preferences: Any) -> None:
    aws.asg.start_instance_refresh(
        AutoScalingGroupName="group",
        DesiredConfiguration={"MixedInstancesPolicy": desired_policy(aws)},
        Preferences={**CAREFUL, **preferences},
    )


def refresh(aws: Aws) -> dict[str, Any]:
    found = aws.asg.describe_instance_refreshes(AutoScalingGroupName="group")["InstanceRefreshes"]
    return dict(found[0])


def status(aws: Aws) -> str:
    return str(refresh(aws)["Status"])


def until(aws: Emulated, done: Callable[[], bool], arn: str | None = None, seconds: float = 120.0) -> int:
    """Move on until `done()`; returns the fewest targets that served meanwhile."""
    least = 1000
    for _ in range(int(seconds / MOMENT)):
        if done():
            return least
        aws.tick(MOMENT)
        least = min(least, serving(aws, arn)) if arn else least
    pytest.fail(f"not in {seconds} s: {refresh(aws)}")


def launched_from(aws: Aws) -> str:
    """The version that the group itself names."""
    specification = aws.group()["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    return str(specification["Version"])


def versions(aws: Aws) -> list[str]:
    """Of the members that are not on their way out."""
    living = [one for one in aws.group()["Instances"] if not one["LifecycleState"].startswith("Termin")]
    return sorted(one["LaunchTemplate"]["Version"] for one in living)


def ring(aws: Aws, state: str = "ALARM") -> str:
    aws.cloudwatch.put_metric_alarm(
        AlarmName="lost",
        Namespace="Goldenfleet",
        MetricName="RequestsFailed",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    aws.cloudwatch.set_alarm_state(AlarmName="lost", StateValue=state, StateReason="a test")
    return "lost"


def test_moto_has_no_refreshes(plain: Plain) -> None:
    """Plain moto refuses all four calls."""
    with plain() as aws:
        aws.make_group()
        calls = ("start", "cancel", "rollback")
        for ask in [getattr(aws.asg, f"{call}_instance_refresh") for call in calls]:
            with pytest.raises(NotImplementedError):
                ask(AutoScalingGroupName="group")
        with pytest.raises(NotImplementedError):
            aws.asg.describe_instance_refreshes(AutoScalingGroupName="group")


REFUSED = {
    "rollback to nothing": ({"AutoRollback": True}, "DesiredConfiguration parameter is"),
    "only a maximum": ({"MaxHealthyPercentage": 110}, "needs MinHealthyPercentage"),
    "too wide": ({"MinHealthyPercentage": 50, "MaxHealthyPercentage": 160}, "at most 100 above"),
    "unordered": ({"CheckpointPercentages": [50, 20, 100]}, "ascending"),
    "delay alone": ({"CheckpointDelay": 60}, "needs CheckpointPercentages"),
    "unknown alarm": ({"AlarmSpecification": {"Alarms": ["nobody"]}}, "alarms that exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_preferences_are_refused_as_on_aws(case: str, aws: Emulated) -> None:
    """What cannot be meant is refused before anything is replaced."""
    preferences, message = REFUSED[case]
    aws.make_group()
    with pytest.raises(ClientError, match=message):
        aws.asg.start_instance_refresh(AutoScalingGroupName="group", Preferences=preferences)


def test_calls_that_come_too_late_or_twice_are_refused(aws: Emulated) -> None:
    """One refresh at a time; nothing to cancel or roll back where none runs, or none that could."""
    up(aws)
    for call in (aws.asg.cancel_instance_refresh, aws.asg.rollback_instance_refresh):
        with pytest.raises(ClientError, match="ActiveInstanceRefreshNotFound"):
            call(AutoScalingGroupName="group")
    aws.asg.start_instance_refresh(AutoScalingGroupName="group")
    with pytest.raises(ClientError, match="InstanceRefreshInProgress"):
        aws.asg.start_instance_refresh(AutoScalingGroupName="group")
    with pytest.raises(ClientError, match="IrreversibleInstanceRefresh"):
        aws.asg.rollback_instance_refresh(AutoScalingGroupName="group")


def test_a_group_that_is_refreshed_to_something_cannot_be_set_to_something_else(aws: Emulated) -> None:
    """Its policy is the refresh's until that is over; its sizes are not."""
    up(aws)
    start(aws)
    with pytest.raises(ClientError, match="not available for update while the instance refresh is active"):
        aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", MixedInstancesPolicy=aws.mixed(2))
    aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", MaxSize=9)


@pytest.mark.parametrize("most", [100, 110, 170, 200])
def test_nodes_that_never_get_ready_fail_a_refresh_and_it_goes_back(most: int, aws: Emulated) -> None:
    """After an hour without progress; all the while as many serve as before, and on the old version."""
    arn = up(aws)
    before = set(aws.members())
    aws.cloud.give_up_refreshes_after(600)
    start(aws, MaxHealthyPercentage=most)
    aws.nodes.serving = False
    assert until(aws, lambda: status(aws) == "RollbackSuccessful", arn) == 3
    assert (launched_from(aws), versions(aws)) == ("1", ["1"] * 3)
    assert {one for one, state in aws.members().items() if state == "InService"} == before
    assert "no progress for one hour" in refresh(aws)["RollbackDetails"]["RollbackReason"]
    assert refresh(aws)["PercentageComplete"] == 0


def test_a_refresh_that_comes_further_is_not_given_up(aws: Emulated) -> None:
    """An hour is for each step: each node that serves begins it anew."""
    up(aws, 4)
    start(aws)
    aws.cloud.give_up_refreshes_after(30)
    began = aws.clock.now
    until(aws, lambda: status(aws) == "InProgress", seconds=1)
    until(aws, lambda: status(aws) != "InProgress")
    assert status(aws) == "Successful"
    assert aws.clock.now - began > 2 * 3.0


def test_an_alarm_fails_a_refresh_and_what_it_replaced_is_replaced_again(aws: Emulated) -> None:
    """At a checkpoint, with nodes that are ready and yet bad."""
    arn = up(aws)
    alarm = ring(aws, "OK")
    start(
        aws,
        AlarmSpecification={"Alarms": [alarm]},
        CheckpointPercentages=[30, 100],
        CheckpointDelay=300,
    )
    least = until(aws, lambda: "Checkpoint of 30%" in refresh(aws).get("StatusReason", ""), arn)
    assert (versions(aws), refresh(aws)["PercentageComplete"]) == (["1", "1", "2"], 33)
    ring(aws)
    least = min(least, until(aws, lambda: status(aws) == "RollbackSuccessful", arn))
    assert least == 3
    assert versions(aws) == ["1"] * 3
    assert refresh(aws)["RollbackDetails"]["PercentageCompleteOnRollback"] == 33
    assert refresh(aws)["PercentageComplete"] == 0


def test_without_automatic_rollback_it_only_stops(aws: Emulated) -> None:
    """What was replaced stays replaced."""
    up(aws)
    alarm = ring(aws, "OK")
    start(aws, AutoRollback=False, AlarmSpecification={"Alarms": [alarm]}, CheckpointPercentages=[30, 100])
    until(aws, lambda: "Checkpoint" in refresh(aws).get("StatusReason", ""))
    ring(aws)
    aws.tick(MOMENT)
    assert (status(aws), launched_from(aws)) == ("Failed", "1")
    assert versions(aws) == ["1", "1", "2"]


def test_a_refresh_saves_its_configuration_in_the_end(aws: Emulated) -> None:
    """The group says what it was until the last node is new and the bake time is over."""
    arn = up(aws)
    start(aws, BakeTime=100)
    least = until(aws, lambda: status(aws) == "Baking", arn)
    assert (launched_from(aws), versions(aws)) == ("1", ["2"] * 3)
    least = min(least, until(aws, lambda: status(aws) == "Successful", arn, seconds=11))
    assert least == 3
    assert launched_from(aws) == "2"
    assert refresh(aws)["PercentageComplete"] == 100
    assert aws.group()["HealthCheckType"] == "ELB"


def test_a_group_that_grows_meanwhile_grows_by_new_nodes(aws: Emulated) -> None:
    """What a refresh goes towards is what is launched."""
    up(aws, 2)
    start(aws, CheckpointPercentages=[50, 100])
    until(aws, lambda: "Checkpoint" in refresh(aws).get("StatusReason", ""))
    aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=4)
    aws.settle()
    assert versions(aws) == ["1", "2", "2", "2"]


def test_a_person_rolls_back_what_bakes(aws: Emulated) -> None:
    """A refresh that is not over can be rolled back, all of it."""
    arn = up(aws)
    start(aws, BakeTime=600)
    until(aws, lambda: status(aws) == "Baking")
    aws.asg.rollback_instance_refresh(AutoScalingGroupName="group")
    least = until(aws, lambda: status(aws) == "RollbackSuccessful", arn)
    assert (least, versions(aws), launched_from(aws)) == (3, ["1"] * 3, "1")


def test_a_cancelled_refresh_leaves_what_it_has_done(aws: Emulated) -> None:
    """It is over once what it began has ended, and the group says what it said before."""
    arn = up(aws)
    start(aws, CheckpointPercentages=[30, 100])
    until(aws, lambda: "Checkpoint" in refresh(aws).get("StatusReason", ""))
    aws.asg.cancel_instance_refresh(AutoScalingGroupName="group")
    least = until(aws, lambda: status(aws) == "Cancelled", arn)
    aws.tick(MOMENT, times=20)
    assert (versions(aws), launched_from(aws)) == (["1", "1", "2"], "1")
    assert min(least, serving(aws, arn)) == 3


@pytest.mark.parametrize("call", ["cancel", "rollback"])
def test_what_is_in_flight_is_given_up_and_costs_no_capacity(call: str, aws: Emulated) -> None:
    """New nodes that do not serve yet go, and those that they were to replace stay."""
    arn = up(aws)
    before = set(aws.members())
    start(aws, MaxHealthyPercentage=170)
    aws.nodes.serving = False
    aws.tick(MOMENT, times=4)
    assert len(aws.members()) == 5
    aws.nodes.serving = True
    getattr(aws.asg, f"{call}_instance_refresh")(AutoScalingGroupName="group")
    least = until(aws, lambda: status(aws) in ("Cancelled", "RollbackSuccessful"), arn)
    aws.tick(MOMENT, times=20)
    assert (least, set(aws.members())) == (3, before)


def test_instances_that_match_already_are_skipped(aws: Emulated) -> None:
    """A refresh towards what all have is over at once, whatever its bake time."""
    up(aws)
    policy = aws.mixed()
    aws.asg.start_instance_refresh(
        AutoScalingGroupName="group",
        DesiredConfiguration={"MixedInstancesPolicy": policy},
        Preferences={**CAREFUL, "BakeTime": 3600},
    )
    aws.tick(MOMENT)
    assert status(aws) == "Successful"


@pytest.mark.parametrize(("behaviour", "left"), [("Refresh", 0), ("Ignore", 1)])
def test_protected_members_are_replaced_or_passed_over(behaviour: str, left: int, aws: Emulated) -> None:
    """As the preferences say of members that scaling may not end."""
    up(aws)
    protected = next(iter(aws.members()))
    aws.asg.set_instance_protection(
        AutoScalingGroupName="group", InstanceIds=[protected], ProtectedFromScaleIn=True
    )
    start(aws, ScaleInProtectedInstances=behaviour)
    until(aws, lambda: status(aws) == "Successful")
    assert versions(aws).count("1") == left


def test_protected_members_that_are_waited_for_fail_a_refresh_in_the_end(aws: Emulated) -> None:
    """Once all others are new and the hour is over; the protected one was never touched."""
    up(aws)
    protected = next(iter(aws.members()))
    aws.asg.set_instance_protection(
        AutoScalingGroupName="group", InstanceIds=[protected], ProtectedFromScaleIn=True
    )
    aws.cloud.give_up_refreshes_after(60)
    start(aws, ScaleInProtectedInstances="Wait", AutoRollback=False)
    until(aws, lambda: status(aws) == "Failed")
    assert versions(aws) == ["1", "2", "2"]
    assert aws.members()[protected] == "InService"


def test_a_checkpoint_is_no_lack_of_progress(aws: Emulated) -> None:
    """However long somebody wants to look: the hour begins after it."""
    up(aws, 2)
    aws.cloud.give_up_refreshes_after(60)
    start(aws, CheckpointPercentages=[50, 100], CheckpointDelay=120)
    until(aws, lambda: status(aws) not in ("Pending", "InProgress"))
    assert status(aws) == "Successful"


def test_without_a_maximum_a_group_dips_below_its_minimum(aws: Emulated) -> None:
    """As on AWS: an instance ends and its replacement starts at once. Who promises more gives a maximum."""
    arn = up(aws)
    aws.asg.start_instance_refresh(
        AutoScalingGroupName="group", Preferences={"MinHealthyPercentage": 100, "InstanceWarmup": 0}
    )
    assert until(aws, lambda: status(aws) == "Successful", arn) == 2
