"""Gaps of moto 5.2.5 in target groups: plain moto still has each, the emulated cloud fills it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Emulated, Plain


def reason(aws: Aws, arn: str, instance_id: str) -> str | None:
    found = aws.elb.describe_target_health(TargetGroupArn=arn, Targets=[{"Id": instance_id}])
    answer: str | None = found["TargetHealthDescriptions"][0]["TargetHealth"].get("Reason")
    return answer


def up(aws: Emulated, **fields: Any) -> tuple[str, str]:
    """A target group and its one member, in service and checked once."""
    arn = aws.make_target_group()
    aws.make_group(TargetGroupARNs=[arn], **fields)
    aws.tick()
    aws.tick(0.5)
    (instance_id,) = aws.members()
    return arn, instance_id


def test_health_follows_the_node(plain: Plain, emulate: Emulate) -> None:
    """A target starts initial, one pass admits it, two failures reject it, two passes admit it again."""
    with plain() as aws:
        arn = aws.make_target_group()
        aws.make_group(TargetGroupARNs=[arn])
        assert list(aws.health(arn).values()) == ["healthy"]
    with emulate() as aws:
        arn, instance_id = up(aws)
        assert aws.kinds(instance_id)[-2:] == ["target.initial", "target.healthy"]
        node = aws.nodes.running[instance_id]
        node.status = 503
        aws.tick(1.0)
        assert aws.health(arn)[instance_id] == "healthy"
        aws.tick(1.0)
        assert aws.health(arn)[instance_id] == "unhealthy"
        assert reason(aws, arn, instance_id) == "Target.ResponseCodeMismatch"
        node.status = 200
        aws.tick(1.0)
        assert aws.health(arn)[instance_id] == "unhealthy"
        aws.tick(1.0)
        assert aws.health(arn)[instance_id] == "healthy"


def test_a_node_that_never_answers_is_never_admitted(aws: Emulated) -> None:
    """Without a pass a new target goes from initial to unhealthy, with AWS's reason."""
    aws.nodes.serving = False
    arn, instance_id = up(aws)
    assert (aws.health(arn)[instance_id], reason(aws, arn, instance_id)) == (
        "initial",
        "Elb.InitialHealthChecking",
    )
    aws.tick(1.0)
    assert (aws.health(arn)[instance_id], reason(aws, arn, instance_id)) == (
        "unhealthy",
        "Target.FailedHealthChecks",
    )


def test_checks_come_at_the_scaled_interval(aws: Emulated) -> None:
    """Between two intervals nothing is asked, however often the cloud looks."""
    aws.nodes.serving = False
    arn, instance_id = up(aws)
    aws.tick(0.1, times=9)
    assert aws.health(arn)[instance_id] == "initial"
    aws.tick(0.2)
    assert aws.health(arn)[instance_id] == "unhealthy"


def test_deregistered_targets_drain(plain: Plain, emulate: Emulate) -> None:
    """A deregistered target drains for the scaled delay, then is gone; an unknown one is no error."""

    def deregister(aws: Aws, arn: str, instance_id: str) -> None:
        aws.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": instance_id}])

    with plain() as aws:
        arn = aws.make_target_group()
        aws.make_group(TargetGroupARNs=[arn])
        (instance_id,) = aws.members()
        deregister(aws, arn, instance_id)
        assert aws.health(arn, instance_id) == {instance_id: "unused"}
        assert aws.health(arn) == {}
        with pytest.raises(ClientError):
            deregister(aws, arn, instance_id)
    with emulate() as aws:
        arn, instance_id = up(aws)
        deregister(aws, arn, instance_id)
        assert aws.health(arn) == {instance_id: "draining"}
        assert reason(aws, arn, instance_id) == "Target.DeregistrationInProgress"
        aws.tick(5.9)
        assert aws.health(arn) == {instance_id: "draining"}
        aws.tick(0.2)
        assert aws.health(arn) == {}
        assert reason(aws, arn, instance_id) == "Target.NotRegistered"
        deregister(aws, arn, instance_id)


def test_the_balancer_sends_on_for_its_lag(aws: Emulated) -> None:
    """A draining target is routed until the balancer has caught up, 20 s of AWS later."""
    arn, instance_id = up(aws)
    aws.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": instance_id}])
    (target,) = aws.cloud.targets(arn)
    assert (target.state, target.routed) == ("draining", True)
    aws.tick(2.1)
    (target,) = aws.cloud.targets(arn)
    assert (target.state, target.routed) == ("draining", False)


def test_the_balancer_fails_open(aws: Emulated) -> None:
    """With every target unhealthy the balancer routes to all of them, as an ALB does."""
    aws.nodes.serving = False
    arn, _ = up(aws)
    assert [one.routed for one in aws.cloud.targets(arn)] == [False]
    aws.tick(1.0)
    assert [(one.state, one.routed) for one in aws.cloud.targets(arn)] == [("unhealthy", True)]


def test_a_group_without_a_listener_is_unused(plain: Plain, emulate: Emulate) -> None:
    """Targets of a group that no listener forwards to are unused until one does."""
    with plain() as aws:
        arn = aws.make_target_group(listener=False)
        aws.make_group(TargetGroupARNs=[arn])
        assert list(aws.health(arn).values()) == ["healthy"]
    with emulate() as aws:
        arn = aws.make_target_group(listener=False)
        aws.make_group(TargetGroupARNs=[arn])
        aws.settle()
        (instance_id,) = aws.members()
        assert aws.health(arn) == {instance_id: "unused"}
        assert reason(aws, arn, instance_id) == "Target.NotInUse"
        aws.make_listener(arn)
        aws.tick(times=2)
        assert aws.health(arn) == {instance_id: "healthy"}


def test_a_group_of_type_elb_replaces_what_fails(plain: Plain, emulate: Emulate) -> None:
    """With ELB health checks a member whose target fails is replaced, but not within its grace."""
    with plain() as aws:
        arn = aws.make_target_group()
        aws.make_group(TargetGroupARNs=[arn], HealthCheckType="ELB")
        (instance_id,) = aws.members()
        aws.ec2.stop_instances(InstanceIds=[instance_id])
        assert aws.members() == {instance_id: "InService"}
    with emulate() as aws:
        arn, instance_id = up(aws, HealthCheckType="ELB", HealthCheckGracePeriod=60)
        aws.cloud.kill(instance_id)
        assert aws.nodes.killed_ids == [instance_id]
        aws.tick(1.0, times=4)
        assert aws.health(arn) == {instance_id: "unhealthy"}
        assert aws.members() == {instance_id: "InService"}
        aws.tick(3.0, times=2)
        assert instance_id not in aws.members()
        cause = next(a for a in aws.activities() if a["Description"].startswith("Terminating"))["Cause"]
        assert "ELB system health check failure" in cause
        assert aws.nodes.killed_ids == [instance_id]


def test_scale_in_drains_before_the_hook(plain: Plain, emulate: Emulate) -> None:
    """The group waits for the balancer's connections before it calls the terminate hook."""
    with plain() as aws:
        arn = aws.make_target_group()
        aws.make_group(TargetGroupARNs=[arn])
        (instance_id,) = aws.members()
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=0)
        assert aws.instance(instance_id)["State"]["Name"] == "terminated"
    with emulate() as aws:
        queue = aws.make_queue({"detail-type": ["EC2 Instance-terminate Lifecycle Action"]})
        arn, instance_id = up(aws, LifecycleHookSpecificationList=[aws.hook])
        aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=0)
        aws.tick()
        assert aws.members() == {instance_id: "Terminating"}
        assert aws.health(arn) == {instance_id: "draining"}
        assert aws.activities()[0]["StatusCode"] == "WaitingForELBConnectionDraining"
        aws.tick(5.9)
        assert aws.received(queue) == []
        aws.tick(0.2)
        assert aws.members() == {instance_id: "Terminating:Wait"}
        assert len(aws.received(queue)) == 1
        aws.tick(6.1, times=2)
        assert aws.members() == {}


def test_a_dead_member_is_not_waited_for(aws: Emulated) -> None:
    """A target with no connections left is drained at once: the hook of a dead member comes right away."""
    _, instance_id = up(aws, LifecycleHookSpecificationList=[aws.hook])
    aws.ec2.terminate_instances(InstanceIds=[instance_id])
    aws.tick(times=2)
    assert aws.members()[instance_id] == "Terminating:Wait"
