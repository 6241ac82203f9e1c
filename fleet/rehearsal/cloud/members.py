"""The life of a member: into service, and out of it through the load balancer and the hooks."""

from __future__ import annotations

from fleet.rehearsal.cloud import activities, hooks, pool, targets
from fleet.rehearsal.cloud.records import Group, Member
from fleet.rehearsal.cloud.world import World

LAUNCHED = "EC2 Instance Launch Successful"
TERMINATED = "EC2 Instance Terminate Successful"


def set_phase(world: World, group: Group, member: Member, phase: str) -> None:
    """Change the member's lifecycle state and tell of it."""
    if member.phase != phase:
        member.state.lifecycle_state = phase
        world.tell(f"lifecycle.{phase}", member.machine.id, group.name)


def advance(world: World, group: Group, member: Member) -> None:
    """Move the member on as far as it goes now."""
    if member.is_pending:
        _advance_launch(world, group, member)
    elif member.is_terminating:
        _advance_end(world, group, member)


def begin_terminate(world: World, group: Group, member: Member, cause: str) -> None:
    """Start to end a member: out of the load balancer, then the hooks, then EC2."""
    if member.is_terminating:
        return
    member.waits.clear()
    member.activity = activities.terminating(world, group, member, cause)
    member.machine.target_lifecycle_state = "Terminated"
    set_phase(world, group, member, "Terminating")
    arns = list(group.moto.target_group_arns)
    member.draining_until = targets.deregister_everywhere(world, member.machine.id, arns)
    if member.draining_until > world.clock():
        member.activity.status_code = "WaitingForELBConnectionDraining"


def register(world: World, group: Group, member: Member) -> None:
    """Put a member that serves into the group's target groups."""
    if not member.machine.is_alive:
        return
    for arn in group.moto.target_group_arns:
        target_group = world.elbv2.target_groups.get(arn)
        if target_group is not None and member.machine.id not in target_group.targets:
            target_group.register([{"Id": member.machine.id}])


def leave(group: Group, member: Member) -> None:
    """Strike the member off the group's list."""
    del group.members[member.machine.id]
    group.moto.instance_states.remove(member.state)


def _advance_launch(world: World, group: Group, member: Member) -> None:
    if member.phase == "Pending":
        if member.machine.running_at is None:
            return
        if hooks.begin(world, group, member, hooks.LAUNCHING):
            set_phase(world, group, member, "Pending:Wait")
            return
        set_phase(world, group, member, "Pending:Proceed")
    if member.phase == "Pending:Wait":
        result = hooks.result(world, member)
        if result == "ABANDON":
            begin_terminate(world, group, member, activities.ABANDONED)
        if result != "CONTINUE":
            return
        set_phase(world, group, member, "Pending:Proceed")
    _enter_service(world, group, member)


def _enter_service(world: World, group: Group, member: Member) -> None:
    member.in_service_at, member.route = world.clock(), None
    set_phase(world, group, member, "InService")
    activities.succeeded(world, group, member, LAUNCHED)
    register(world, group, member)


def _advance_end(world: World, group: Group, member: Member) -> None:
    machine = member.machine
    if member.phase == "Terminating":
        if world.clock() < member.draining_until and machine.is_alive:
            return
        if hooks.begin(world, group, member, hooks.TERMINATING):
            if member.activity is not None:
                member.activity.status_code = "MidLifecycleAction"
            set_phase(world, group, member, "Terminating:Wait")
            return
        set_phase(world, group, member, "Terminating:Proceed")
    if member.phase == "Terminating:Wait":
        if hooks.result(world, member) is None:
            return
        set_phase(world, group, member, "Terminating:Proceed")
    _end(world, group, member)


def _end(world: World, group: Group, member: Member) -> None:
    machine = member.machine
    if pool.takes_back(group, member):
        _give_back(world, group, member)
        return
    if machine.terminated_at is None:
        world.ec2.terminate_instances([machine.id])
    world.elbv2.notify_terminate_instances([machine.id])
    set_phase(world, group, member, "Terminated")
    machine.lifecycle_state = "Terminated"
    leave(group, member)
    activities.succeeded(world, group, member, TERMINATED)


def _give_back(world: World, group: Group, member: Member) -> None:
    """Its drain is over: it waits in the warm pool again."""
    leave(group, member)
    activities.succeeded(world, group, member, TERMINATED)
    member.waits.clear()
    member.scaled_in = False
    group.warm[member.machine.id] = member
    member.machine.target_lifecycle_state = f"Warmed:{pool.state(group)}"
    set_phase(world, group, member, "Warmed:Pending:Proceed")
