"""How large a warm pool is to be, and whom it takes back."""

from __future__ import annotations

from fleet.rehearsal.cloud.records import Group, Member


def wanted(group: Group) -> int:
    """Units that wait."""
    asked = group.moto.warm_pool
    if asked is None:
        return 0
    prepared = asked.max_group_prepared_capacity
    most = int(group.moto.max_size or 0) if prepared is None or int(prepared) < 0 else int(prepared)
    return max(int(asked.min_size or 0), most - group.desired)


def units(group: Group) -> int:
    return sum(member.weight for member in group.warm.values())


def state(group: Group) -> str:
    """In which they wait."""
    return str(getattr(group.moto.warm_pool, "pool_state", None) or "Stopped")


def missing(group: Group) -> int:
    """Units that the pool should have, and neither has nor gets back."""
    coming = sum(m.weight for m in group.members.values() if m.is_terminating and _reused(group, m))
    return max(0, wanted(group) - units(group) - coming)


def takes_back(group: Group, member: Member) -> bool:
    """Whether a member that scaling takes out goes back to the pool."""
    return _reused(group, member) and wanted(group) - units(group) >= member.weight


def _reused(group: Group, member: Member) -> bool:
    policy = getattr(group.moto.warm_pool, "instance_reuse_policy", None) or {}
    reuse = str(policy.get("ReuseOnScaleIn")).lower() == "true"
    return reuse and member.scaled_in and member.machine.is_alive
