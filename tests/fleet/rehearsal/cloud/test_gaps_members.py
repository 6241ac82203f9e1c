"""Gaps of moto 5.2.5 in the life of members: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Emulated, Plain

LAUNCH_HOOK = {
    "LifecycleHookName": "warm",
    "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
    "HeartbeatTimeout": 60,
    "DefaultResult": "ABANDON",
}


def put_hook(aws: Aws, hook: dict[str, Any]) -> None:
    aws.make_group(DesiredCapacity=0)
    aws.asg.put_lifecycle_hook(AutoScalingGroupName="group", **hook)
    aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=1)


def answer(aws: Aws, hook: str, result: str = "CONTINUE", **who: str) -> None:
    aws.asg.complete_lifecycle_action(
        AutoScalingGroupName="group", LifecycleHookName=hook, LifecycleActionResult=result, **who
    )


def up(aws: Emulated, **fields: Any) -> list[str]:
    """A group whose members are all in service."""
    aws.make_group(**fields)
    aws.settle()
    assert set(aws.members().values()) == {"InService"}
    return list(aws.members())


def test_launch_hooks_hold_a_member(plain: Plain, emulate: Emulate) -> None:
    """A launching hook keeps the instance in Pending:Wait until it is answered."""
    with plain() as aws:
        put_hook(aws, LAUNCH_HOOK)
        assert list(aws.members().values()) == ["InService"]
    with emulate() as aws:
        put_hook(aws, LAUNCH_HOOK)
        aws.settle()
        ((instance_id, state),) = aws.members().items()
        assert state == "Pending:Wait"
        answer(aws, "warm", InstanceId=instance_id)
        aws.tick()
        assert aws.members() == {instance_id: "InService"}


def test_terminate_hooks_hold_a_member(plain: Plain, emulate: Emulate) -> None:
    """A terminating hook keeps the instance running until it is answered by token."""
    with plain() as aws:
        put_hook(aws, aws.hook)
        (instance_id,) = aws.members()
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=0)
        assert aws.members() == {}
    with emulate() as aws:
        queue = aws.make_queue({"detail-type": ["EC2 Instance-terminate Lifecycle Action"]})
        put_hook(aws, aws.hook)
        aws.settle()
        (instance_id,) = aws.members()
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=0)
        aws.tick(times=2)
        assert aws.members() == {instance_id: "Terminating:Wait"}
        assert aws.nodes.killed_ids == []
        (event,) = aws.received(queue)
        assert event["detail"]["NotificationMetadata"] == "for the drain"
        answer(aws, "drain", LifecycleActionToken=event["detail"]["LifecycleActionToken"])
        aws.tick()
        assert aws.members() == {}
        assert aws.nodes.killed_ids == [instance_id]


def test_heartbeats_and_timeouts_of_hooks(plain: Plain, emulate: Emulate) -> None:
    """A heartbeat renews a wait; without one the default result is applied."""
    with plain() as aws:
        put_hook(aws, aws.hook)
        for ask in (
            lambda: answer(aws, "drain", InstanceId="i-0"),
            lambda: aws.asg.record_lifecycle_action_heartbeat(
                AutoScalingGroupName="group", LifecycleHookName="drain", InstanceId="i-0"
            ),
        ):
            with pytest.raises(NotImplementedError):
                ask()
    with emulate() as aws:
        put_hook(aws, LAUNCH_HOOK)
        aws.settle()
        (instance_id,) = aws.members()
        aws.tick(4.0)
        aws.asg.record_lifecycle_action_heartbeat(
            AutoScalingGroupName="group", LifecycleHookName="warm", InstanceId=instance_id
        )
        aws.tick(5.9)
        assert aws.members()[instance_id] == "Pending:Wait"
        aws.tick(0.2, times=3)
        assert instance_id not in aws.members()


def test_a_hook_answers_to_its_name_only(aws: Emulated) -> None:
    """CompleteLifecycleAction with another hook's name, or for no wait, is a validation error."""
    put_hook(aws, LAUNCH_HOOK)
    aws.settle()
    (instance_id,) = aws.members()
    for wrong in ({"hook": "drain", "InstanceId": instance_id}, {"hook": "warm", "InstanceId": "i-0"}):
        with pytest.raises(ClientError) as error:
            answer(aws, **wrong)
        assert error.value.response["Error"]["Code"] == "ValidationError"
    assert aws.members()[instance_id] == "Pending:Wait"


def test_an_abandoned_launch_is_replaced(aws: Emulated) -> None:
    """ABANDON on a launching hook ends the instance and launches another."""
    put_hook(aws, LAUNCH_HOOK)
    aws.settle()
    (instance_id,) = aws.members()
    answer(aws, "warm", "ABANDON", InstanceId=instance_id)
    aws.tick(times=3)
    assert aws.nodes.killed_ids == [instance_id]
    assert list(aws.members().values()) == ["Pending"]


def test_unhealthy_members_are_replaced(plain: Plain, emulate: Emulate) -> None:
    """SetInstanceHealth Unhealthy ends the member through its hook and launches another."""

    def after_verdict(aws: Aws, instance_id: str) -> dict[str, str]:
        aws.asg.set_instance_health(
            InstanceId=instance_id, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False
        )
        if hasattr(aws, "tick"):
            aws.tick(times=2)
        return aws.members()

    with plain() as aws:
        put_hook(aws, aws.hook)
        (instance_id,) = aws.members()
        assert after_verdict(aws, instance_id) == {instance_id: "InService"}
    with emulate() as aws:
        put_hook(aws, aws.hook)
        aws.settle()
        (instance_id,) = aws.members()
        found = after_verdict(aws, instance_id)
        assert found.pop(instance_id) == "Terminating:Wait"
        assert list(found.values()) == ["Pending"]


def test_a_terminated_member_is_found_and_replaced(plain: Plain, emulate: Emulate) -> None:
    """ec2:TerminateInstances on a member: its process is killed, the group says why and replaces it."""
    with plain() as aws:
        aws.make_group()
        (instance_id,) = aws.members()
        aws.ec2.terminate_instances(InstanceIds=[instance_id])
        assert aws.activities() == []
    with emulate() as aws:
        (instance_id,) = up(aws)
        aws.ec2.terminate_instances(InstanceIds=[instance_id])
        assert aws.nodes.killed_ids == [instance_id]
        aws.tick(times=3)
        assert list(aws.members().values()) == ["Pending"]
        cause = next(a for a in aws.activities() if a["Description"].startswith("Terminating"))["Cause"]
        assert "EC2 health check indicating it has been terminated or stopped" in cause


def test_terminating_in_a_group_takes_the_whole_path(plain: Plain, emulate: Emulate) -> None:
    """TerminateInstanceInAutoScalingGroup waits for the hook, and replaces unless it decrements."""
    with plain() as aws:
        put_hook(aws, aws.hook)
        (instance_id,) = aws.members()
        aws.asg.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
        )
        assert aws.members() == {}
    with emulate() as aws:
        put_hook(aws, aws.hook)
        aws.settle()
        (instance_id,) = aws.members()
        aws.asg.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
        )
        aws.tick(times=2)
        assert aws.members() == {instance_id: "Terminating:Wait"}
        assert aws.group()["DesiredCapacity"] == 0
        with pytest.raises(ClientError, match="violate group's min size"):
            aws.asg.detach_instances(
                AutoScalingGroupName=aws.make_group("floor", MinSize=1),
                InstanceIds=[_only_member(aws, "floor")],
                ShouldDecrementDesiredCapacity=True,
            )


def _only_member(aws: Emulated, group: str) -> str:
    aws.settle()
    (instance_id,) = aws.members(group)
    return instance_id


def test_detaching_leaves_the_balancer_and_launches_at_once(plain: Plain, emulate: Emulate) -> None:
    """A member detached without decrement drains, keeps running, and is replaced."""

    def detach(aws: Aws, instance_id: str) -> None:
        aws.asg.detach_instances(
            AutoScalingGroupName="group", InstanceIds=[instance_id], ShouldDecrementDesiredCapacity=False
        )

    with plain() as aws:
        arn = aws.make_target_group()
        aws.make_group(TargetGroupARNs=[arn])
        (instance_id,) = aws.members()
        detach(aws, instance_id)
        assert aws.health(arn)[instance_id] == "healthy"
    with emulate() as aws:
        arn = aws.make_target_group()
        (instance_id,) = up(aws, TargetGroupARNs=[arn])
        detach(aws, instance_id)
        assert aws.health(arn) == {instance_id: "draining"}
        aws.tick()
        assert list(aws.members().values()) == ["Pending"]
        view = next(one for one in aws.cloud.instances() if one.instance_id == instance_id)
        assert (view.state, view.lifecycle_state) == ("running", "Detached")


def test_scale_in_keeps_the_split_and_the_zones(plain: Plain, emulate: Emulate) -> None:
    """Scale-in takes the side that exceeds the split, from the zone with most, never a protected one."""
    with plain() as aws:
        aws.make_group(DesiredCapacity=6, MixedInstancesPolicy=aws.mixed(2, 0))
        kept = list(aws.members())[3:]
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=3)
        assert set(aws.members()) == set(kept)  # moto ends the first ones, whatever they are
    with emulate() as aws:
        members = up(aws, DesiredCapacity=6, MixedInstancesPolicy=aws.mixed(2, 0))
        spot = [one.instance_id for one in aws.cloud.instances() if one.purchase_option == "spot"]
        aws.asg.set_instance_protection(
            AutoScalingGroupName="group", InstanceIds=spot[:1], ProtectedFromScaleIn=True
        )
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=3)
        aws.tick(times=3)
        left = [one for one in aws.cloud.instances() if one.instance_id in aws.members()]
        assert len(members) == 6
        assert Counter(one.purchase_option for one in left) == {"on-demand": 2, "spot": 1}
        assert len({one.availability_zone for one in left}) == 3
        assert spot[0] in aws.members()


def test_standby_leaves_service_and_comes_back(aws: Emulated) -> None:
    """A member in standby drains and is not counted; out of it, it serves again."""
    arn = aws.make_target_group()
    (instance_id,) = up(aws, TargetGroupARNs=[arn])
    aws.asg.enter_standby(
        AutoScalingGroupName="group", InstanceIds=[instance_id], ShouldDecrementDesiredCapacity=True
    )
    aws.tick()
    assert aws.members() == {instance_id: "Standby"}
    assert aws.health(arn) == {instance_id: "draining"}
    aws.asg.exit_standby(AutoScalingGroupName="group", InstanceIds=[instance_id])
    aws.tick(0.5, times=3)
    assert aws.members() == {instance_id: "InService"}
    assert aws.health(arn) == {instance_id: "healthy"}
