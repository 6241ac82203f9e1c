"""Members that were to leave because the split had too many of their kind."""

from __future__ import annotations

from fleet.rehearsal.cloud.capacity import Split
from fleet.rehearsal.cloud.records import Group


def let_stay(group: Group, split: Split) -> None:
    """Where the split wants them again and nothing was launched in their place, they stay."""
    members = [m for m in group.members.values() if m.in_service or m.is_pending]
    staying = [member for member in members if member.leaving is None]
    wanted = {"on-demand": split.on_demand(group.desired)}
    wanted["spot"] = group.desired - wanted["on-demand"]
    for member in members:
        if member.leaving != "split" or sum(m.weight for m in staying) >= group.desired:
            continue
        same = sum(m.weight for m in staying if m.machine.option == member.machine.option)
        if same < wanted[member.machine.option]:
            member.leaving = None
            staying.append(member)
