"""What a notice asks for, given what is known of its instance. Pure, and the same however often it is asked:
each action either changes nothing the second time or is left out once its effect is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from fleet.control.notices import Interruption, Notice, Rebalance, Termination

# From EC2's documentation: a spot instance is interrupted two minutes after its notice.
SPOT_NOTICE_S: Final = 120.0
# The last share of the time that a hook grants is kept for AWS to act before it runs out by itself.
LET_GO_AT: Final = 0.92


@dataclass(frozen=True, slots=True)
class Instance:
    """`group` and `member_state` are None once Auto Scaling has let it go."""

    instance_id: str
    stack: str | None
    address: str | None
    alive: bool
    group: str | None = None
    member_state: str | None = None
    target_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the node says of itself. `dead`: nothing listens there; `silent`: no answer in time."""

    condition: str  # dead, silent, or the drain's phase
    deadline: float | None = None

    @property
    def draining(self) -> bool:
        return self.condition in ("accepting", "refusing", "handing_over")


@dataclass(frozen=True, slots=True)
class Rules:
    """`time_scale` multiplies AWS's durations; it is 1 everywhere but in a rehearsal."""

    stack: str
    time_scale: float = 1.0
    recheck_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Deregister:
    """Leave the load balancer."""

    target_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Detach:
    """Leave the group without lowering what it wants, so that the replacement launches now. That keeps the
    group within its limits: the desired capacity does not change, and a minimum is not looked at."""

    group: str


@dataclass(frozen=True, slots=True)
class TellNode:
    """Drain by `deadline` (unix seconds). A node that does not answer is told again later."""

    address: str
    reason: str
    deadline: float


@dataclass(frozen=True, slots=True)
class LetGo:
    """Complete the hook: the instance may be terminated now."""

    notice: Termination
    because: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing to do, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Not done yet: the message comes back after `seconds`."""

    seconds: float


Action: TypeAlias = Deregister | Detach | TellNode | LetGo | Drop | LookAgain


def decide(
    notice: Notice,
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
    if isinstance(notice, Rebalance):
        return [Drop("a recommendation is only recorded")]
    if isinstance(notice, Interruption):
        return _interruption(notice, instance, node, now=now, rules=rules)
    return _termination(notice, instance, node, now=now, heartbeat_s=heartbeat_s, rules=rules)


def deadline_of(notice: Notice, heartbeat_s: float | None, rules: Rules) -> float:
    """Unix seconds at which AWS acts, whatever is done here."""
    granted_s = SPOT_NOTICE_S if heartbeat_s is None else heartbeat_s
    return notice.at + granted_s * rules.time_scale


def _interruption(
    notice: Interruption, instance: Instance | None, node: NodeState, *, now: float, rules: Rules
) -> list[Action]:
    if instance is None or not instance.alive:
        return [Drop("the instance is gone")]
    deadline = deadline_of(notice, None, rules)
    actions = _leave_balancer(instance)
    if instance.group is not None and _detachable(instance):
        actions.append(Detach(instance.group))
    if _untold(node, deadline) and instance.address is not None and now < deadline:
        actions.append(TellNode(instance.address, notice.kind, deadline))
    return actions


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
        return [Drop("the hook is gone")]
    deadline = deadline_of(notice, heartbeat_s, rules)
    let_go_at = notice.at + LET_GO_AT * (deadline - notice.at)
    because = _why_let_go(instance, node, overdue=now >= let_go_at)
    if because is not None or instance is None or instance.address is None:
        return [LetGo(notice, because or "it has no address")]
    untold = _untold(node, deadline)
    actions = _leave_balancer(instance) if untold else []
    if untold:
        actions.append(TellNode(instance.address, notice.kind, deadline))
    return [*actions, LookAgain(min(rules.recheck_s, let_go_at - now))]


def _why_let_go(instance: Instance | None, node: NodeState, *, overdue: bool) -> str | None:
    if instance is None or not instance.alive:
        return "gone"
    if node.condition in ("empty", "dead"):
        return node.condition
    return "deadline" if overdue else None


def _leave_balancer(instance: Instance) -> list[Action]:
    return [Deregister(instance.target_groups)] if instance.target_groups else []


def _detachable(instance: Instance) -> bool:
    """A member that is already leaving cannot be detached, and need not be: its replacement is due."""
    return not (instance.member_state or "").startswith(("Terminat", "Detach"))


def _untold(node: NodeState, deadline: float) -> bool:
    """Whether the node still has to hear of this deadline. It keeps the earliest that it was told."""
    if node.condition in ("dead", "empty"):
        return False
    # Whole seconds in an event's time: a difference below one second is no news.
    return not (node.draining and node.deadline is not None and node.deadline <= deadline + 1.0)
