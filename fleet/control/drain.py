"""What a notice asks for, given what is known of its instance. Pure, and the same however often it is asked:
each action either changes nothing the second time or is left out once its effect is seen.

docs/control.md has the table of all events and their actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet.control.actions import (
    Action,
    Deregister,
    Detach,
    Drop,
    EnterStandby,
    ExitStandby,
    LetGo,
    LookAgain,
    RememberUndrain,
    Retire,
    TellNode,
    Undrain,
)
from fleet.control.notices import (
    DrainRequest,
    Interruption,
    Leaving,
    Maintenance,
    Notice,
    Rebalance,
    StateChange,
    Termination,
    UndrainRequest,
)

# From EC2's documentation: a spot instance is interrupted two minutes after its notice.
SPOT_NOTICE_S: Final = 120.0
# Maintenance is announced days ahead, so that long answers may end by themselves.
MAINTENANCE_DRAIN_S: Final = 600.0
# A message lives for some hours (fleet.stack.notices): a person's drain must be over before that.
LONGEST_DRAIN_S: Final = 3000.0
# The last share of the time that a hook grants is kept for AWS to act before it runs out by itself.
LET_GO_AT: Final = 0.92
# Looks at one drain: SQS gives a message up after a hundred.
_LOOKS: Final = 60
# SQS tells a message's age until its third receive (CloudWatch metrics for SQS,
# ApproximateAgeOfOldestMessage), and an old one rings an alarm.
LOOKS_SOON: Final = 3
SOON_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Instance:
    """`group` and `member_state` are None once Auto Scaling has let it go. `room`: its group may grow by one.
    `spare`: how many of its group may leave now where nothing hurries. `undrained_at` is when a person last
    wanted it back, in unix seconds.
    """

    instance_id: str
    stack: str | None
    address: str | None
    alive: bool
    group: str | None = None
    member_state: str | None = None
    target_groups: tuple[str, ...] = ()
    tier: str | None = None
    room: bool = False
    spare: int = 1
    undrained_at: float | None = None

    @property
    def in_service(self) -> bool:
        return self.member_state == "InService"

    @property
    def in_standby(self) -> bool:
        return self.member_state == "Standby"

    @property
    def pending(self) -> bool:
        return (self.member_state or "").startswith("Pending")

    @property
    def leaves(self) -> bool:
        return (self.member_state or "").startswith(("Terminat", "Detach"))


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the node says of itself. `dead`: nothing listens there; `silent`: no answer in time."""

    condition: str  # dead, silent, or the drain's phase
    deadline: float | None = None
    ready: bool = False

    @property
    def draining(self) -> bool:
        return self.condition in ("accepting", "refusing", "handing_over")

    @property
    def has_work(self) -> bool:
        """Or may have: who does not answer is not given up before the deadline."""
        return self.condition not in ("dead", "empty")


@dataclass(frozen=True, slots=True)
class Rules:
    """`time_scale` multiplies AWS's durations; it is 1 everywhere but in a rehearsal."""

    stack: str
    time_scale: float = 1.0
    recheck_s: float = 2.0


def decide(
    notice: Leaving,
    instance: Instance | None,
    node: NodeState,
    *,
    now: float,
    heartbeat_s: float | None,
    rules: Rules,
) -> list[Action]:
    """In order. `node` as it was before any of them; `heartbeat_s` is the hook's, None without a hook."""
    if instance is not None and instance.stack != rules.stack:
        return [Drop("another fleet's instance")]
    match notice:
        case Rebalance():
            return [Drop("a recommendation is only recorded")]
        case Interruption():
            return _interruption(notice, instance, node, now=now, rules=rules)
        case StateChange():
            return _state_change(notice, instance)
        case Maintenance() | DrainRequest():
            return _drain(notice, instance, node, now=now, rules=rules)
        case UndrainRequest():
            return _undrain(notice, instance, node, now=now, rules=rules)
        case Termination():
            return _termination(notice, instance, node, now=now, heartbeat_s=heartbeat_s, rules=rules)


def deadline_of(notice: Notice, heartbeat_s: float | None, rules: Rules) -> float | None:
    """Unix seconds at which the instance goes, whatever is done here; None where the notice takes nothing."""
    match notice:
        case Interruption():
            return notice.at + SPOT_NOTICE_S * rules.time_scale
        case Termination():
            return None if heartbeat_s is None else notice.at + heartbeat_s * rules.time_scale
        case Maintenance(begins=begins):
            wanted = notice.at + MAINTENANCE_DRAIN_S * rules.time_scale
            return wanted if begins is None else min(wanted, max(begins, notice.at))
        case DrainRequest(deadline_s=deadline_s):
            default_s = SPOT_NOTICE_S * rules.time_scale
            return notice.at + min(LONGEST_DRAIN_S, default_s if deadline_s is None else deadline_s)
        case _:
            return None


def _interruption(
    notice: Interruption, instance: Instance | None, node: NodeState, *, now: float, rules: Rules
) -> list[Action]:
    if instance is None or not instance.alive:
        return _replace_what_is_gone(instance)
    deadline = notice.at + SPOT_NOTICE_S * rules.time_scale
    actions = _leave_balancer(instance)
    if instance.group is not None and instance.in_service:
        actions.append(Detach(instance.group))
    if _untold(node, deadline) and instance.address is not None and now < deadline:
        actions.append(TellNode(instance.address, notice.kind, deadline))
    if instance.pending and now < deadline:
        # Only a member in service can be detached, and this one may still come into service.
        actions.append(LookAgain(rules.recheck_s))
    return actions


def _state_change(notice: StateChange, instance: Instance | None) -> list[Action]:
    """Somebody ended the instance, and no notice came before."""
    if notice.state in ("shutting-down", "terminated"):
        return _replace_what_is_gone(instance)
    if notice.state in ("stopping", "stopped"):
        if instance is None or instance.alive or not instance.in_service:
            return [Drop("nothing of ours has stopped")]
        return [*_leave_balancer(instance), Drop("Auto Scaling replaces what has stopped")]
    return [Drop(f"{notice.state} asks for nothing")]


def _replace_what_is_gone(instance: Instance | None) -> list[Action]:
    """Auto Scaling would see it at its next health check; this asks for the replacement now."""
    if instance is None or instance.alive or instance.group is None:
        return [Drop("the instance is gone")]
    if instance.in_standby:
        return [Retire()]  # health checks leave it alone there; its replacement was launched before
    if not instance.in_service:
        return [Drop("the instance is gone")]
    return [*_leave_balancer(instance), Detach(instance.group)]


def _drain(
    notice: Maintenance | DrainRequest,
    instance: Instance | None,
    node: NodeState,
    *,
    now: float,
    rules: Rules,
) -> list[Action]:
    """What AWS does not end by itself, at least not now: out of service, drained, ended."""
    if instance is None or not instance.alive:
        return _replace_what_is_gone(instance)
    deadline = deadline_of(notice, None, rules)
    assert deadline is not None
    pause_s = pause(rules, deadline - notice.at, deadline - now)
    lost = node.condition == "dead" or (node.condition == "silent" and now >= deadline)
    if _is_undone(notice, instance) and (instance.in_service or not lost):
        # Back in service, a node that is lost is its group's to find.
        return [Drop("undrained since")] if lost else _take_back(instance, node, deadline, pause_s, rules)
    if instance.group is None or instance.leaves:
        return _hurry(notice, instance, node, deadline, now)
    actions = [*_leave_balancer(instance), EnterStandby(instance.group)] if instance.in_service else []
    if not node.has_work or now >= deadline:
        return [*actions, Retire()]
    if _untold(node, deadline) and instance.address is not None and not instance.pending:
        actions.append(TellNode(instance.address, _reason(notice), deadline))
    return [*actions, LookAgain(pause_s)]


def _take_back(
    instance: Instance, node: NodeState, deadline: float, pause_s: float, rules: Rules
) -> list[Action]:
    """What a drain did although it was undone."""
    if node.condition == "silent":
        return [LookAgain(pause_s)]
    # A node that drains by another deadline was asked for again since then, and not by this notice.
    ours = node.deadline is None or abs(node.deadline - deadline) <= 1.0
    actions = [*_serve_again(instance, node), *_return(instance)] if ours else []
    return [*actions, LookAgain(rules.recheck_s)] if actions else [Drop("undrained since")]


def _hurry(
    notice: Maintenance | DrainRequest, instance: Instance, node: NodeState, deadline: float, now: float
) -> list[Action]:
    """AWS takes it already: at most the node hears of an earlier deadline."""
    if _untold(node, deadline) and instance.address is not None and now < deadline:
        return [TellNode(instance.address, _reason(notice), deadline)]
    return [Drop("the instance is leaving already")]


def _is_undone(notice: Maintenance | DrainRequest, instance: Instance) -> bool:
    """A person may take back what a person asked for; AWS's maintenance comes anyway."""
    asked = isinstance(notice, DrainRequest)
    return asked and _undrained_since(instance, notice.at) and _may_serve_again(instance)


def _undrained_since(instance: Instance, at: float) -> bool:
    return instance.undrained_at is not None and instance.undrained_at >= at


def _may_serve_again(instance: Instance) -> bool:
    """A group takes an instance back by growing by one."""
    return not instance.leaves and instance.group is not None and (instance.room or not instance.in_standby)


def _undrain(
    notice: UndrainRequest, instance: Instance | None, node: NodeState, *, now: float, rules: Rules
) -> list[Action]:
    """Remembered once the node agreed, so that a drain goes on where the undrain was refused; and before the
    instance is back, so that the drain does not take it out again.
    """
    if instance is None or not instance.alive or node.condition == "dead":
        return [Drop("the instance is gone")]
    half_done = instance.in_standby and node.condition == "serving"
    if _undrained_since(instance, notice.at) and not half_done:
        return [Drop("it was undrained before")]
    if not _may_serve_again(instance):
        why = "AWS takes it" if instance.leaves or instance.group is None else "its group is at its max"
        return [Drop(f"too late: {why}, and its replacement has its place")]
    if node.condition == "silent":
        late = now >= notice.at + SPOT_NOTICE_S * rules.time_scale
        return [Drop("the node does not answer") if late else LookAgain(rules.recheck_s)]
    told, back = _serve_again(instance, node), _return(instance)
    return [*told, RememberUndrain(notice.at), *back, *([] if told or back else [Drop("it serves")])]


def _serve_again(instance: Instance, node: NodeState) -> list[Action]:
    return [] if node.condition == "serving" or instance.address is None else [Undrain(instance.address)]


def _return(instance: Instance) -> list[Action]:
    return [ExitStandby(instance.group)] if instance.in_standby and instance.group is not None else []


def _termination(
    notice: Termination,
    instance: Instance | None,
    node: NodeState,
    *,
    now: float,
    heartbeat_s: float | None,
    rules: Rules,
) -> list[Action]:
    if heartbeat_s is None:
        return [Drop("no hook of ours waits")]
    deadline = notice.at + heartbeat_s * rules.time_scale
    let_go_at = notice.at + LET_GO_AT * (deadline - notice.at)
    because = _why_let_go(instance, node, overdue=now >= let_go_at)
    if because is not None or instance is None or instance.address is None:
        return [LetGo(notice, because or "it has no address")]
    untold = _untold(node, deadline)
    actions = _leave_balancer(instance) if untold else []
    if untold:
        actions.append(TellNode(instance.address, notice.kind, deadline))
    return [*actions, LookAgain(pause(rules, deadline - notice.at, let_go_at - now))]


def _why_let_go(instance: Instance | None, node: NodeState, *, overdue: bool) -> str | None:
    if instance is None or not instance.alive:
        return "gone"
    if not node.has_work:
        return node.condition
    return "deadline" if overdue else None


def _leave_balancer(instance: Instance) -> list[Action]:
    return [Deregister(instance.target_groups)] if instance.target_groups else []


def _untold(node: NodeState, deadline: float) -> bool:
    """Whether the node still has to hear of this deadline. It keeps the earliest that it was told."""
    if not node.has_work:
        return False
    # Whole seconds in an event's time: a difference below one second is no news.
    return not (node.draining and node.deadline is not None and node.deadline <= deadline + 1.0)


def pause(rules: Rules, granted_s: float, left_s: float) -> float:
    """The first looks come soon, however long there is."""
    often = max(rules.recheck_s, granted_s / _LOOKS)
    if granted_s - left_s < LOOKS_SOON * SOON_S:
        often = min(often, max(rules.recheck_s, SOON_S))
    return min(often, left_s)


def _reason(notice: Maintenance | DrainRequest) -> str:
    return notice.reason if isinstance(notice, DrainRequest) else f"maintenance: {notice.code}"
