"""Warm pools: moto keeps their settings, and has no instance in them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fleet.rehearsal.cloud.conftest import Aws, Emulate, Emulated, Plain

HOOK = {
    "LifecycleHookName": "ready",
    "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
    "HeartbeatTimeout": 60,
    "DefaultResult": "ABANDON",
}


def make(aws: Aws, *, hook: bool = False, **pool: Any) -> None:
    """One in service of at most four, and a pool."""
    hooks = [HOOK] if hook else None
    aws.make_group(MaxSize=4, DesiredCapacity=1, LifecycleHookSpecificationList=hooks)
    aws.asg.put_warm_pool(AutoScalingGroupName="group", **pool)
    if isinstance(aws, Emulated):
        aws.settle()


def waiting(aws: Aws) -> dict[str, str]:
    found = aws.asg.describe_warm_pool(AutoScalingGroupName="group")["Instances"]
    return {one["InstanceId"]: one["LifecycleState"] for one in found}


def desire(aws: Emulated, desired: int) -> None:
    aws.asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=desired)
    aws.tick()


def let_go(aws: Emulated, instance_id: str, result: str = "CONTINUE") -> None:
    aws.asg.complete_lifecycle_action(
        AutoScalingGroupName="group",
        LifecycleHookName="ready",
        InstanceId=instance_id,
        LifecycleActionResult=result,
    )


def test_what_waits_is_not_in_service(plain: Plain, emulate: Emulate) -> None:
    """It has booted once and is stopped; neither the group nor a balancer counts it."""
    with plain() as aws:
        make(aws, MaxGroupPreparedCapacity=3)
        assert waiting(aws) == {}
    with emulate() as aws:
        make(aws, MaxGroupPreparedCapacity=3)
        pool = waiting(aws)
        assert list(pool.values()) == ["Warmed:Stopped"] * 2
        assert len(aws.members()) == 1
        assert not set(pool) & set(aws.members())
        assert {aws.instance(one)["State"]["Name"] for one in pool} == {"stopped"}
        assert set(pool) <= set(aws.nodes.killed_ids)
        listed = aws.asg.describe_auto_scaling_instances(InstanceIds=list(pool))["AutoScalingInstances"]
        assert {one["LifecycleState"] for one in listed} == {"Warmed:Stopped"}
        aws.tick(200.0)
        assert waiting(aws) == pool


@pytest.mark.parametrize(
    ("pool", "size"), [({}, 3), ({"MinSize": 2}, 3), ({"MaxGroupPreparedCapacity": 1}, 0)]
)
def test_the_pool_is_what_the_group_may_grow_by(emulate: Emulate, pool: dict[str, int], size: int) -> None:
    """Up to the maximum or the prepared capacity."""
    with emulate() as aws:
        make(aws, **pool)
        assert len(waiting(aws)) == size


def test_the_pool_has_a_minimum(emulate: Emulate) -> None:
    """Even where the group can grow no further."""
    with emulate() as aws:
        make(aws, MinSize=2, MaxGroupPreparedCapacity=1)
        assert len(waiting(aws)) == 2


def test_who_waits_is_started_when_the_group_grows(emulate: Emulate) -> None:
    """The same instance at the same address, and another takes its place in the pool where there is room."""
    with emulate() as aws:
        make(aws, MinSize=1, MaxGroupPreparedCapacity=2)
        (instance_id,) = waiting(aws)
        address = aws.instance(instance_id)["PrivateIpAddress"]
        desire(aws, 2)
        assert aws.members()[instance_id] == "Pending"
        assert aws.instance(instance_id)["State"]["Name"] == "pending"
        aws.settle()
        assert aws.members()[instance_id] == "InService"
        again = [view for view in aws.nodes.launched_views if view.instance_id == instance_id]
        assert [view.address for view in again] == [address, address]
        assert instance_id not in waiting(aws)
        assert len(waiting(aws)) == 1


def test_a_hook_holds_it_on_the_way_in_and_on_the_way_out(emulate: Emulate) -> None:
    """Warmed:Pending:Wait until it is let go, else it would be stopped in the middle of its first boot."""
    with emulate() as aws:
        url = aws.make_queue({"source": ["aws.autoscaling"]})
        make(aws, hook=True, MaxGroupPreparedCapacity=2)
        (served,) = aws.members()
        let_go(aws, served)
        (instance_id,) = waiting(aws)
        assert waiting(aws)[instance_id] == "Warmed:Pending:Wait"
        assert aws.instance(instance_id)["State"]["Name"] == "running"
        let_go(aws, instance_id)
        aws.settle()
        assert waiting(aws) == {instance_id: "Warmed:Stopped"}
        desire(aws, 2)
        aws.settle()
        assert aws.members()[instance_id] == "Pending:Wait"
        let_go(aws, instance_id)
        aws.settle()
        assert aws.members()[instance_id] == "InService"
        routes = [
            (event["detail"]["Origin"], event["detail"]["Destination"])
            for event in aws.received(url)
            if event["detail"].get("EC2InstanceId") == instance_id and "Origin" in event["detail"]
        ]
        assert routes == [("EC2", "WarmPool"), ("WarmPool", "AutoScalingGroup")]


def test_who_does_not_get_ready_is_given_up(emulate: Emulate) -> None:
    """The hook runs out, the instance ends, and another boots for the pool."""
    with emulate() as aws:
        make(aws, hook=True, MaxGroupPreparedCapacity=2)
        (first,) = waiting(aws)
        aws.tick(7.0)
        aws.tick()
        assert first not in waiting(aws)
        assert aws.instance(first)["State"]["Name"] == "terminated"
        assert len(waiting(aws)) == 1


def test_running_pools_run(emulate: Emulate) -> None:
    """Nothing is stopped, and nothing booted again."""
    with emulate() as aws:
        make(aws, PoolState="Running", MaxGroupPreparedCapacity=2)
        (instance_id,) = waiting(aws)
        assert waiting(aws)[instance_id] == "Warmed:Running"
        desire(aws, 2)
        aws.tick()
        assert aws.members()[instance_id] == "InService"
        assert instance_id not in aws.nodes.killed_ids


@pytest.mark.parametrize("reuse", [False, True])
def test_who_scaling_takes_out_returns_where_it_is_asked_for(emulate: Emulate, reuse: bool) -> None:
    """Else it ends. What is replaced ends in any case."""
    with emulate() as aws:
        aws.make_group(MaxSize=2, DesiredCapacity=2)
        policy = {"ReuseOnScaleIn": reuse}
        aws.asg.put_warm_pool(AutoScalingGroupName="group", InstanceReusePolicy=policy)
        aws.settle()
        before = set(aws.members())
        desire(aws, 1)
        aws.settle()
        (gone,) = before - set(aws.members())
        assert (waiting(aws).get(gone) == "Warmed:Stopped") is reuse
        assert aws.instance(gone)["State"]["Name"] == ("stopped" if reuse else "terminated")


def test_a_pool_of_an_older_template_is_renewed(emulate: Emulate) -> None:
    """What waits would boot what nobody rolled out."""
    with emulate() as aws:
        make(aws, MaxGroupPreparedCapacity=2)
        (old,) = waiting(aws)
        aws.ec2.create_launch_template_version(
            LaunchTemplateId=aws.template,
            LaunchTemplateData={"ImageId": aws.image, "InstanceType": "g5.xlarge"},
        )
        launch = {"LaunchTemplateId": aws.template, "Version": "2"}
        aws.asg.update_auto_scaling_group(AutoScalingGroupName="group", LaunchTemplate=launch)
        aws.settle()
        assert old not in waiting(aws)
        assert list(waiting(aws).values()) == ["Warmed:Stopped"]


@pytest.mark.parametrize("how", ["pool", "group"])
def test_nothing_waits_for_what_is_gone(emulate: Emulate, how: str) -> None:
    """A pool's instances end with it, and with its group."""
    with emulate() as aws:
        make(aws, MaxGroupPreparedCapacity=3)
        pool = waiting(aws)
        if how == "pool":
            aws.asg.delete_warm_pool(AutoScalingGroupName="group", ForceDelete=True)
        else:
            aws.asg.delete_auto_scaling_group(AutoScalingGroupName="group", ForceDelete=True)
        aws.settle()
        assert {aws.instance(one)["State"]["Name"] for one in pool} == {"terminated"}
