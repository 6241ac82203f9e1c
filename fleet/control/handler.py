"""One message of the queue: what it says, what is known, what is decided, and that done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fleet.control import node
from fleet.control.drain import (
    Action,
    Deregister,
    Detach,
    Drop,
    Instance,
    LetGo,
    LookAgain,
    NodeState,
    Rules,
    TellNode,
    deadline_of,
    decide,
)
from fleet.control.errors import AwsFailed
from fleet.control.log import Log
from fleet.control.notices import NotANotice, Notice, Termination, parse

# A call that failed is repeated after 1, 2, 4, then 8 s: a throttled account needs air, a notice has 120 s.
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0)


class Account(Protocol):
    """What the handler asks of the account; every method may raise AwsFailed."""

    def instance(self, instance_id: str) -> Instance | None: ...
    def heartbeat_s(self, group: str, hook: str) -> float | None: ...
    def deregister(self, instance_id: str, target_groups: Sequence[str]) -> None: ...
    def detach(self, instance_id: str, group: str) -> None: ...
    def complete(self, instance_id: str, group: str, hook: str, token: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Done:
    """The message can be deleted."""


@dataclass(frozen=True, slots=True)
class Again:
    """The message must come back after `seconds`."""

    seconds: float


class Handler:
    """Holds no state of its own: what was done shows in AWS and on the node. `clock` gives unix seconds."""

    def __init__(
        self,
        rules: Rules,
        account: Account,
        log: Log,
        clock: Callable[[], float],
        admin_port: int = node.ADMIN_PORT,
    ) -> None:
        self._rules: Final = rules
        self._account: Final = account
        self._log: Final = log
        self._clock: Final = clock
        self._admin_port: Final = admin_port

    def handle(self, body: str, receives: int = 1) -> Done | Again:
        """`receives`: how often this message was received, this time included. Never raises AwsFailed."""
        notice = parse(body)
        if isinstance(notice, NotANotice):
            self._log("notice.dropped", reason=notice.reason)
            return Done()
        try:
            return self._follow(notice, first=receives == 1)
        except AwsFailed as exc:
            pause_s = _BACKOFF_S[min(receives, len(_BACKOFF_S)) - 1]
            self._log("notice.failed", instance_id=notice.instance_id, error=str(exc), again_s=pause_s)
            return Again(pause_s)

    def _follow(self, notice: Notice, *, first: bool) -> Done | Again:
        instance = self._account.instance(notice.instance_id)
        heartbeat_s = None
        if isinstance(notice, Termination):
            heartbeat_s = self._account.heartbeat_s(notice.group, notice.hook)
        if first:
            deadline = deadline_of(notice, heartbeat_s, self._rules)
            self._log("notice.seen", instance_id=notice.instance_id, kind=notice.kind, deadline=deadline)
        state, now = self._state(instance), self._clock()
        actions = decide(notice, instance, state, now=now, heartbeat_s=heartbeat_s, rules=self._rules)
        return self._perform(notice, actions)

    def _state(self, instance: Instance | None) -> NodeState:
        if instance is None or not instance.alive or instance.address is None:
            return NodeState("dead")
        if instance.stack != self._rules.stack:
            return NodeState("silent")  # not ours to ask
        return node.state(instance.address, self._admin_port)

    def _perform(self, notice: Notice, actions: Sequence[Action]) -> Done | Again:
        verdict: Done | Again = Done()
        for action in actions:
            match action:
                case Deregister(target_groups):
                    self._account.deregister(notice.instance_id, target_groups)
                    self._log("target.deregistered", instance_id=notice.instance_id)
                case Detach(group):
                    self._account.detach(notice.instance_id, group)
                    self._log("instance.detached", instance_id=notice.instance_id, group=group)
                case TellNode():
                    heard = self._tell(notice, action)
                    verdict = Done() if heard else Again(self._rules.recheck_s)
                case LetGo():
                    self._let_go(action)
                case Drop(reason):
                    self._drop(notice, reason)
                case LookAgain(seconds):
                    verdict = Again(seconds)
        return verdict

    def _tell(self, notice: Notice, order: TellNode) -> bool:
        """False when the node may not have heard."""
        left_s = max(0.1, order.deadline - self._clock())
        said = node.drain(order.address, order.reason, left_s, self._admin_port)
        self._log(
            "drain.requested",
            instance_id=notice.instance_id,
            reason=order.reason,
            deadline=order.deadline,
            node=said.condition,
        )
        return said.condition != "silent"

    def _let_go(self, action: LetGo) -> None:
        notice = action.notice
        self._account.complete(notice.instance_id, notice.group, notice.hook, notice.token)
        self._log("hook.completed", instance_id=notice.instance_id, hook=notice.hook, reason=action.because)

    def _drop(self, notice: Notice, reason: str) -> None:
        self._log("notice.dropped", instance_id=notice.instance_id, kind=notice.kind, reason=reason)
