"""Scaling activities, in AWS's wording."""

from __future__ import annotations

import json
import uuid

from fleet.rehearsal.cloud import events
from fleet.rehearsal.cloud.records import Activity, Group, Machine, Member
from fleet.rehearsal.cloud.world import World, utc

# Why a member is ended, as DescribeScalingActivities says it after "At <time> ".
ELB_FAILURE = "an instance was taken out of service in response to an ELB system health check failure."
EC2_GONE = (
    "an instance was taken out of service in response to an EC2 health check indicating it has been "
    "terminated or stopped."
)
EC2_FAILURE = "an instance was taken out of service in response to an EC2 instance status checks failure."
USER_HEALTH = "an instance was taken out of service in response to a user health-check."
REBALANCE = (
    "an instance was taken out of service in response to an EC2 Spot rebalance recommendation, "
    "its replacement being healthy."
)
REFRESH = "an instance was taken out of service in response to an instance refresh."
SPLIT = (
    "an instance was taken out of service in response to a difference between the on-demand and Spot "
    "capacity and the instances distribution."
)
ABANDONED = "an instance was taken out of service because its lifecycle action was abandoned or timed out."


def started(
    world: World, group: Group, description: str, cause: str, status: str, machine: Machine | None
) -> Activity:
    """Record an activity that goes on."""
    activity = Activity(
        activity_id=str(uuid.uuid4()),
        auto_scaling_group_name=group.name,
        auto_scaling_group_arn=str(group.moto.arn),
        description=description,
        cause=cause,
        start_time=utc(world.clock()),
        status_code=status,
        progress=30,
        details=_details(machine),
    )
    group.activities.appendleft(activity)
    return activity


def launch_cause(world: World, group: Group, before: int) -> str:
    now = world.now_text()
    return (
        f"At {now} {group.cause} changing the desired capacity to {group.desired}.  At {now} an instance was "
        "started in response to a difference between desired and actual capacity, increasing the capacity "
        f"from {before} to {before + 1}."
    )


def launching(world: World, group: Group, machine: Machine, before: int) -> Activity:
    return started(
        world,
        group,
        f"Launching a new EC2 instance: {machine.id}",
        launch_cause(world, group, before),
        "PreInService",
        machine,
    )


def launch_failed(world: World, group: Group, reason: str, before: int) -> None:
    """A launch that came to nothing; AWS puts the reason into the description too."""
    message = f"{reason} Launching EC2 instance failed."
    activity = started(
        world,
        group,
        f"Launching a new EC2 instance.  Status Reason: {message}",
        launch_cause(world, group, before),
        "Failed",
        None,
    )
    activity.status_message = message
    _end(world, activity, "Failed")
    events.activity_ended(world, group, activity, "EC2 Instance Launch Unsuccessful", None)
    world.tell("activity.failed", None, group.name, reason=message)


def terminating(world: World, group: Group, member: Member, cause: str) -> Activity:
    return started(
        world,
        group,
        f"Terminating EC2 instance: {member.machine.id}",
        f"At {world.now_text()} {cause}",
        "InProgress",
        member.machine,
    )


def user_request(instance_id: str) -> str:
    return f"instance {instance_id} was taken out of service in response to a user request."


def shrinking(world: World, instance_id: str, before: int, after: int) -> str:
    return (
        "an instance was taken out of service in response to a difference between desired and actual "
        f"capacity, shrinking the capacity from {before} to {after}.  At {world.now_text()} instance "
        f"{instance_id} was selected for termination."
    )


def moved(world: World, group: Group, machine: Machine, what: str, done: str) -> Activity:
    """Detaching, or moving to or out of Standby."""
    activity = started(
        world,
        group,
        f"{what}: {machine.id}",
        f"At {world.now_text()} instance {machine.id} was {done} in response to a user request.",
        "InProgress",
        machine,
    )
    _end(world, activity, "Successful")
    return activity


def succeeded(world: World, group: Group, member: Member, kind: str) -> None:
    """End the member's activity; `kind` is the detail-type that says so."""
    activity = member.activity
    if activity is None or activity.end_time is not None:
        return
    _end(world, activity, "Successful")
    events.activity_ended(world, group, activity, kind, member.machine.id)


def _end(world: World, activity: Activity, status: str) -> None:
    activity.status_code, activity.progress, activity.end_time = status, 100, utc(world.clock())


def _details(machine: Machine | None) -> str:
    if machine is None:
        return "{}"
    return json.dumps(
        {"Subnet ID": machine.instance.subnet_id, "Availability Zone": machine.pool.availability_zone}
    )
