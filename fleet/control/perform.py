"""Decisions carried out: what one call to AWS can do for many instances first, then each instance's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from fleet.control import node
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
from fleet.control.aws import DETACHED_AT_ONCE, Facts, chunks
from fleet.control.drain import Instance, Rules
from fleet.control.errors import AwsFailed
from fleet.control.log import Log
from fleet.control.notices import (
    DrainRequest,
    Interruption,
    Notice,
    StateChange,
    Termination,
    UndrainRequest,
)

T = TypeVar("T")
R = TypeVar("R")

# Nodes are asked side by side: one that does not answer costs its time limit once, not once for each other.
_THREADS: Final = 50


class Account(Protocol):
    """What is asked of the account; every method may raise AwsFailed."""

    def look(
        self,
        stack: str,
        ids: Collection[str],
        hooks: Collection[tuple[str, str]] = (),
        *,
        sizes: bool = False,
    ) -> Facts: ...
    def deregister(self, target_group: str, ids: Collection[str]) -> None: ...
    def detach(self, group: str, ids: Sequence[str]) -> list[str]: ...
    def enter_standby(self, group: str, instance_id: str) -> None: ...
    def exit_standby(self, group: str, instance_id: str) -> None: ...
    def retire(self, instance_id: str) -> None: ...
    def remember_undrain(self, instance_id: str, at: float) -> None: ...
    def complete(self, instance_id: str, group: str, hook: str, token: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more is to be done."""


@dataclass(frozen=True, slots=True)
class Again:
    """It must be looked at again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """AWS did not do what was asked."""

    error: AwsFailed


Outcome: TypeAlias = Done | Again | Failed


@dataclass(frozen=True, slots=True)
class Task:
    """What to do about one notice, in order."""

    notice: Notice
    instance: Instance | None
    actions: Sequence[Action]

    @property
    def names(self) -> dict[str, str | None]:
        """What each log line of it begins with."""
        tier = self.instance.tier if self.instance is not None else None
        return {"instance_id": self.notice.instance_id, "tier": tier}


class Performer:
    """Carries tasks out, at most one an instance at a time. `clock` gives unix seconds."""

    def __init__(
        self, rules: Rules, account: Account, log: Log, clock: Callable[[], float], admin_port: int
    ) -> None:
        self._rules: Final = rules
        self._account: Final = account
        self._log: Final = log
        self._clock: Final = clock
        self._admin_port: Final = admin_port

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """An outcome for each. A task that fails goes no further, but for what AWS takes whatever fails here:
        its replacement is asked for, and its node hears of it. The others go on.
        """
        failed: dict[str, AwsFailed] = {}
        self._deregister(tasks, failed)
        self._detach(tasks, failed)  # by which Auto Scaling, too, takes it out of its target groups
        return side_by_side(lambda task: self._finish(task, failed.get(task.notice.instance_id)), tasks)

    def _deregister(self, tasks: Sequence[Task], failed: dict[str, AwsFailed]) -> None:
        asked = _asked(tasks, lambda action: action.target_groups if isinstance(action, Deregister) else ())
        # At the same time: where the load balancers' service hangs, it hangs for all of them.
        problems = side_by_side(lambda place: self._leave(*place), list(asked.items()))
        for leaving, problem in zip(asked.values(), problems, strict=True):
            if problem is not None:
                failed |= dict.fromkeys(leaving, problem)
        for instance_id, task in {
            one: task for leaving in asked.values() for one, task in leaving.items()
        }.items():
            if instance_id not in failed:
                self._log("target.deregistered", **task.names)

    def _leave(self, target_group: str, leaving: Collection[str]) -> AwsFailed | None:
        try:
            self._account.deregister(target_group, leaving)
        except AwsFailed as exc:
            return exc
        return None

    def _detach(self, tasks: Sequence[Task], failed: dict[str, AwsFailed]) -> None:
        asked = _asked(tasks, lambda action: (action.group,) if isinstance(action, Detach) else ())
        for group, leaving in asked.items():
            for some in chunks(leaving, DETACHED_AT_ONCE):
                try:
                    detached = self._account.detach(group, some)
                except AwsFailed as exc:
                    failed |= dict.fromkeys(some, exc)
                    continue
                for instance_id in detached:
                    self._log("instance.detached", **leaving[instance_id].names, group=group)

    def _finish(self, task: Task, failed: AwsFailed | None) -> Outcome:
        """The rest of its actions; a node that did not hear, or refused, ends them."""
        if failed is not None:
            if isinstance(task.notice, (Interruption, Termination)):
                for order in (action for action in task.actions if isinstance(action, TellNode)):
                    self._tell(task, order)
            return Failed(failed)
        try:
            for action in task.actions:
                if isinstance(action, LookAgain):
                    return Again(action.seconds)
                ended = self._talk(task, action)
                if ended is not None:
                    return ended
                self._change(task, action)
        except AwsFailed as exc:
            return Failed(exc)
        return Done()

    def _talk(self, task: Task, action: Action) -> Outcome | None:
        """Actions that the node itself has a say in."""
        match action:
            case TellNode():
                return self._tell(task, action)
            case Undrain(address):
                return self._undrain(task, address)
        return None

    def _change(self, task: Task, action: Action) -> None:
        instance_id = task.notice.instance_id
        match action:
            case EnterStandby(group):
                self._account.enter_standby(group, instance_id)
                self._log("instance.in_standby", **task.names, group=group)
            case ExitStandby(group):
                self._account.exit_standby(group, instance_id)
                self._log("instance.returned", **task.names, group=group)
            case Retire():
                self._account.retire(instance_id)
                self._log("instance.retired", **task.names)
            case RememberUndrain(at):
                self._account.remember_undrain(instance_id, at)
            case LetGo():
                self._let_go(task, action)
            case Drop(reason) if not isinstance(task.notice, StateChange):
                # EC2 tells of every end in the account, of which most were expected, and many are others'.
                self._log("notice.dropped", **task.names, kind=task.notice.kind, reason=reason)

    def _tell(self, task: Task, order: TellNode) -> Outcome | None:
        """A node that may not have heard is told again."""
        left_s = max(0.1, order.deadline - self._clock())
        said = node.drain(order.address, order.reason, left_s, self._admin_port)
        notice = task.notice
        self._log(
            "drain.requested",
            **task.names,
            reason=order.reason,
            deadline=order.deadline,
            node=said.condition,
            by=notice.by if isinstance(notice, DrainRequest) else None,
        )
        return Again(self._rules.recheck_s) if said.condition == "silent" else None

    def _undrain(self, task: Task, address: str) -> Outcome | None:
        said = node.undrain(address, self._admin_port)
        notice = task.notice
        by = notice.by if isinstance(notice, (DrainRequest, UndrainRequest)) else None
        if said == "serving":
            self._log("node.undrained", **task.names, by=by)
            return None
        if said != "refused":
            return Again(self._rules.recheck_s)
        self._log("undrain.refused", **task.names, reason="AWS is taking the instance away", by=by)
        if isinstance(notice, DrainRequest):
            self._change(task, Retire())  # the drain that was to be taken back goes on after all
        return Done()

    def _let_go(self, task: Task, action: LetGo) -> None:
        notice = action.notice
        self._account.complete(notice.instance_id, notice.group, notice.hook, notice.token)
        self._log("hook.completed", **task.names, hook=notice.hook, reason=action.because)


def _asked(tasks: Sequence[Task], places: Callable[[Action], Sequence[str]]) -> dict[str, dict[str, Task]]:
    """Place -> who is to leave it, by instance id."""
    asked: dict[str, dict[str, Task]] = {}
    for task in tasks:
        for place in (place for action in task.actions for place in places(action)):
            asked.setdefault(place, {})[task.notice.instance_id] = task
    return asked


def side_by_side(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of each, at the same time. Raises what it raises."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(_THREADS, len(items)), thread_name_prefix="node") as pool:
        return list(pool.map(work, items))


def by_turns(notices: Mapping[Notice, T]) -> list[list[Notice]]:
    """The notices in turns, no instance twice in one: the second must see what came of the first."""
    turns: list[dict[str, Notice]] = []
    for notice in notices:
        for turn in turns:
            if notice.instance_id not in turn:
                turn[notice.instance_id] = notice
                break
        else:
            turns.append({notice.instance_id: notice})
    return [list(turn.values()) for turn in turns]
