"""What an instance that Auto Scaling holds back at its launch asks for. Pure, as fleet.control.drain is."""

from __future__ import annotations

from fleet.control.actions import Action, Drop, LetGo, LookAgain
from fleet.control.drain import Instance, NodeState, Rules, pause
from fleet.control.notices import Launch


def decide(
    notice: Launch,
    instance: Instance | None,
    node: NodeState,
    *,
    now: float,
    heartbeat_s: float | None,
    rules: Rules,
) -> list[Action]:
    """Into service, or into a warm pool, only once the node is ready; else the hook runs out and ends it.

    `heartbeat_s` is the hook's, None without a hook.
    """
    if instance is not None and instance.stack != rules.stack:
        return [Drop("another fleet's instance")]
    if heartbeat_s is None:
        return [Drop("no hook of ours waits")]
    if instance is None or instance.leaves:
        return [Drop("the instance is gone")]
    if node.ready:
        return [LetGo(notice, "ready")]
    granted_s = heartbeat_s * rules.time_scale
    left_s = notice.at + granted_s - now
    return [LookAgain(pause(rules, granted_s, left_s))] if left_s > 0 else [Drop("its hook ran out")]
