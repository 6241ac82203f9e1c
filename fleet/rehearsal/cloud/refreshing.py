"""The life of an instance refresh: batches, checkpoints, bake time, alarms, and the way back.

"How an instance refresh works" (Auto Scaling user guide): a refresh that comes no further, for its new
instances fail their checks or its old ones are protected, is tried for an hour and then fails.
"""

from __future__ import annotations

import math

from moto.cloudwatch.models import cloudwatch_backends

from fleet.rehearsal.cloud import activities, members, pace
from fleet.rehearsal.cloud.capacity import Fact
from fleet.rehearsal.cloud.records import Group, Refresh, Rollback
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, World


def step(world: World, group: Group, facts: list[Fact]) -> None:
    """Let a refresh go on as far as it goes now."""
    refresh = group.refresh()
    if refresh is None:
        return
    if refresh.status == "Cancelling":
        _stop(world, group, refresh, facts)
    elif refresh.rollback is None:
        _go_on(world, group, refresh, facts)
    if refresh.status == "RollbackInProgress":
        # Also one that has just begun: nothing may be launched for what is given up.
        _go_back(world, group, refresh, facts)


def alarms_of(refresh: Refresh) -> list[str]:
    return list((refresh.preferences.get("AlarmSpecification") or {}).get("Alarms") or [])


def stay(group: Group, count: int | None = None) -> None:
    """Members that were to go once they are replaced do not: so many of them, or all."""
    for member in group.members.values():
        if member.leaving == "refresh" and count != 0:
            member.leaving = None
            count = None if count is None else count - 1


def fail(world: World, group: Group, refresh: Refresh, reason: str) -> None:
    if str(refresh.preferences.get("AutoRollback")).lower() == "true":
        begin_rollback(world, group, refresh, f"Automatic rollback was started: {reason}")
        return
    stay(group)
    refresh.reason = reason
    _finish(world, group, refresh, "Failed")


def begin_rollback(world: World, group: Group, refresh: Refresh, reason: str) -> None:
    """What was launched meanwhile is replaced by what the group was when the refresh began."""
    now = world.clock()
    refresh.rollback = Rollback(reason, now, refresh.percent, len(refresh.to_replace))
    refresh.status, refresh.reason = "RollbackInProgress", reason
    refresh.progressed_at, refresh.settled = now, 0
    living = {member.machine.id for member in group.members.values() if not member.is_terminating}
    refresh.to_replace = living - refresh.before
    world.tell("refresh.rollback", None, group.name, reason=reason)


def _go_on(world: World, group: Group, refresh: Refresh, facts: list[Fact]) -> None:
    if ringing := [name for name in alarms_of(refresh) if _rings(name)]:
        fail(world, group, refresh, f"CloudWatch alarm(s) {', '.join(ringing)} went into ALARM state.")
    elif refresh.status != "Baking":
        _renew(world, group, refresh, facts)
    elif world.clock() >= refresh.waits_until:
        _finish(world, group, refresh, "Successful")


def _renew(world: World, group: Group, refresh: Refresh, facts: list[Fact]) -> None:
    refresh.status = "InProgress"
    old, new = _sides(group, refresh, facts)
    settled_new = sum(fact.settled for fact in new)
    _note_progress(world, refresh, settled_new)
    refresh.percent = 100 * min(settled_new, refresh.total) // max(1, refresh.total)
    if not old and settled_new >= min(_instances(group), refresh.total):
        _bake(world, group, refresh)
    elif _looked_at(world, group, refresh, settled_new):
        return
    elif _stalled(world, refresh):
        fail(world, group, refresh, _STALLED)
    elif not any(fact.leaving for fact in old) and all(fact.settled for fact in new):
        quota = pace.quota(refresh.checkpoints, _instances(group), len(new))
        _replace(world, group, refresh, facts, old, quota)


_STALLED = (
    "There has been no progress for one hour: new instances do not pass their health checks, could not be "
    "launched, or old ones may not be replaced."
)


def _stop(world: World, group: Group, refresh: Refresh, facts: list[Fact]) -> None:
    """A cancelled refresh is over once what it began has ended. What does not serve yet is given up, and who
    was to go for it stays.
    """
    unfinished = [fact for fact in facts if fact.instance_id not in refresh.before and not fact.settled]
    for fact in unfinished:
        _end(world, group, fact)
    going = sum(fact.leaving for fact in facts)
    stay(group, max(0, _instances(group) - (len(facts) - len(unfinished) - going)))
    moving = (m.is_pending or m.is_terminating or m.leaving == "refresh" for m in group.members.values())
    if not any(moving):
        _finish(world, group, refresh, "Cancelled")


def _go_back(world: World, group: Group, refresh: Refresh, facts: list[Fact]) -> None:
    new, good = _sides(group, refresh, facts)
    settled = sum(fact.settled for fact in good)
    _note_progress(world, refresh, settled)
    rollback = refresh.rollback
    assert rollback is not None
    refresh.percent = rollback.percent if new else 0
    if _give_up(world, group, new, good):
        return
    if not new and settled >= _instances(group):
        _finish(world, group, refresh, "RollbackSuccessful")
    elif _stalled(world, refresh):
        stay(group)
        _finish(world, group, refresh, "RollbackFailed")
    elif all(fact.settled and not fact.leaving for fact in facts):
        _replace(world, group, refresh, facts, new, len(new))


def _instances(group: Group) -> int:
    """How many make up the desired capacity, by what the members weigh: a refresh counts instances."""
    living = [member for member in group.members.values() if not member.is_terminating]
    units = sum(member.weight for member in living)
    return math.ceil(group.desired * len(living) / units) if units else group.desired


def _give_up(world: World, group: Group, new: list[Fact], good: list[Fact]) -> bool:
    """Whether there was anything in flight. New members that do not serve yet end, for that costs nothing;
    old ones stay, and new ones that serve go as far as the old ones are enough.
    """
    sick = [fact for fact in new if not fact.settled]
    for fact in sick:
        _end(world, group, fact)
    coming_back = [fact for fact in good if group.members[fact.instance_id].leaving == "refresh"]
    for fact in coming_back:
        group.members[fact.instance_id].leaving = None
    serving = [fact for fact in new if fact.settled and not fact.leaving]
    surplus = max(0, len(good) + len(serving) - _instances(group))
    for fact in serving[:surplus]:
        group.members[fact.instance_id].leaving = "refresh"
    return bool(sick or coming_back or surplus)


def _sides(group: Group, refresh: Refresh, facts: list[Fact]) -> tuple[list[Fact], list[Fact]]:
    """Members to replace, and all others."""
    refresh.to_replace &= {
        member.machine.id for member in group.members.values() if not member.is_terminating
    }
    going = [fact for fact in facts if fact.instance_id in refresh.to_replace]
    return going, [fact for fact in facts if fact.instance_id not in refresh.to_replace]


def _note_progress(world: World, refresh: Refresh, settled: int) -> None:
    if settled > refresh.settled:
        refresh.progressed_at = world.clock()
    refresh.settled = settled


def _stalled(world: World, refresh: Refresh) -> bool:
    return world.clock() > refresh.progressed_at + world.scaled(world.refresh_patience)


def _looked_at(world: World, group: Group, refresh: Refresh, settled_new: int) -> bool:
    """Whether the refresh waits at a checkpoint. The last one, which is the end, waits for nobody."""
    now = world.clock()
    passed = pace.reached(refresh.checkpoints[:-1], _instances(group), settled_new)
    if passed > refresh.passed:
        refresh.passed = passed
        percent, delay = refresh.checkpoints[passed - 1], refresh.checkpoint_delay
        refresh.waits_until = now + world.scaled(delay)
        refresh.reason = f"Checkpoint of {percent}% reached. Waiting {delay} seconds before continuing."
        world.tell("refresh.checkpoint", None, group.name, percent=str(percent))
    if now >= refresh.waits_until:
        return False
    refresh.progressed_at = now
    return True


def _replace(
    world: World, group: Group, refresh: Refresh, facts: list[Fact], going: list[Fact], quota: int
) -> None:
    refresh.reason = None if refresh.rollback is None else refresh.reason
    settled = sum(fact.settled for fact in facts)
    able = sorted((f for f in going if not _kept(refresh, f)), key=lambda f: (f.settled, f.launched_at))
    batch = pace.next_batch(_instances(group), settled, min(len(able), quota), refresh.healthy)
    for fact in able[: batch.launch_first]:
        group.members[fact.instance_id].leaving = "refresh"
    for fact in able[: batch.end_first]:
        _end(world, group, fact)


def _kept(refresh: Refresh, fact: Fact) -> bool:
    return fact.protected and refresh.protected != "Refresh"


def _end(world: World, group: Group, fact: Fact) -> None:
    members.begin_terminate(world, group, group.members[fact.instance_id], activities.REFRESH)


def _bake(world: World, group: Group, refresh: Refresh) -> None:
    refresh.percent = 100
    bake = int(refresh.preferences.get("BakeTime") or 0)
    if not bake or not refresh.total:
        _finish(world, group, refresh, "Successful")
        return
    refresh.status, refresh.waits_until = "Baking", world.clock() + world.scaled(bake)
    refresh.reason = f"Baking for {bake} seconds."
    world.tell("refresh.baking", None, group.name)


def _finish(world: World, group: Group, refresh: Refresh, status: str) -> None:
    if status == "Successful":
        vars(group.moto).update(refresh.configured)
        refresh.reason = None
    refresh.status, refresh.ended_at = status, world.clock()
    world.tell(f"refresh.{status.lower()}", None, group.name)


def _rings(name: str) -> bool:
    alarm = cloudwatch_backends[ACCOUNT][REGION].alarms.get(name)
    return alarm is not None and alarm.state_value == "ALARM"
