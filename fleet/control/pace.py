"""How many nodes of a group may leave for maintenance at the same time. Pure.

One event of AWS Health may name every node of a tier, two weeks ahead. Taken out together they would leave
nobody to serve until their replacements have booted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fleet.control.actions import Drop, EnterStandby, LookAgain
from fleet.control.drain import LOOKS_SOON, SOON_S, Rules
from fleet.control.notices import Maintenance
from fleet.control.perform import Task

# So near its beginning nothing is put off any more.
NEAR_S: Final = 3600.0
# What could not be spared for so long is left to the nodes, which drain by themselves when it begins, and to
# Auto Scaling, which replaces them then (user guide, "Scheduled events"): a message is received a hundred
# times at most.
PATIENCE_S: Final = 2700.0
_PAUSE_S: Final = 90.0


def paced(tasks: Sequence[Task], now: float, rules: Rules) -> list[Task]:
    """The tasks; those that a group cannot spare now wait instead, or are left to the node."""
    left: dict[str, int] = {}
    return [_paced(task, left, now, rules) if _may_wait(task, now, rules) else task for task in tasks]


def _paced(task: Task, left: dict[str, int], now: float, rules: Rules) -> Task:
    assert task.instance is not None
    assert task.instance.group is not None
    group = task.instance.group
    left[group] = left.get(group, task.instance.spare) - 1
    if left[group] >= 0:
        return task
    waited_s = now - task.notice.at
    if waited_s < PATIENCE_S * rules.time_scale:
        pause_s = SOON_S if waited_s < LOOKS_SOON * SOON_S else _PAUSE_S
        return replace(task, actions=[LookAgain(pause_s * rules.time_scale)])
    return replace(task, actions=[Drop("its tier cannot spare it; it drains when the maintenance begins")])


def _may_wait(task: Task, now: float, rules: Rules) -> bool:
    begins = task.notice.begins if isinstance(task.notice, Maintenance) else None
    far = begins is not None and begins - now > NEAR_S * rules.time_scale
    return far and any(isinstance(action, EnterStandby) for action in task.actions)
