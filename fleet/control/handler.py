"""Messages of the queue: what they say, what is known, what is decided, and that done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fleet.control import launch, node
from fleet.control.aws import Facts
from fleet.control.drain import Instance, NodeState, Rules, deadline_of, decide
from fleet.control.errors import AwsFailed
from fleet.control.log import Log
from fleet.control.notices import (
    DrainRequest,
    Launch,
    Maintenance,
    NotANotice,
    Notice,
    Rebalance,
    StateChange,
    Termination,
    UndrainRequest,
    parse,
)
from fleet.control.pace import paced
from fleet.control.perform import (
    Account,
    Again,
    Done,
    Failed,
    Outcome,
    Performer,
    Task,
    by_turns,
    side_by_side,
)

# A call that failed is repeated after 1, 2, 4, then 8 s: a throttled account needs air, a notice has 120 s.
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0)
# Several notices of one instance follow one another, and a hanging node costs each of them three seconds.
# What has not begun by then comes back, or all of the batch would be lost with the function's time.
_TURNS_S = 4.0

Verdict: TypeAlias = Done | Again


@dataclass(frozen=True, slots=True)
class Message:
    """`receives`: how often it was received, this time included. `sent`: when that was asked of the queue, in
    unix seconds.
    """

    body: str
    receives: int = 1
    sent: float | None = None


def message_of(body: str, attributes: Mapping[str, str]) -> Message:
    """With the attributes that SQS tells of it; it counts milliseconds."""
    sent = attributes.get("SentTimestamp")
    receives = int(attributes.get("ApproximateReceiveCount", "1"))
    return Message(body, receives, None if sent is None else int(sent) / 1000)


class Handler:
    """Holds no state of its own: what was done shows in AWS and on the node. `clock` gives unix seconds.

    `capacity_changes` is called with the time when nodes were noticed for the first time, as instances will
    be missed: fallback decides then. It is to raise nothing.
    """

    def __init__(
        self,
        rules: Rules,
        account: Account,
        log: Log,
        clock: Callable[[], float],
        admin_port: int = node.ADMIN_PORT,
        capacity_changes: Callable[[float], object] = lambda _now: None,
    ) -> None:
        self._rules: Final = rules
        self._account: Final = account
        self._log: Final = log
        self._clock: Final = clock
        self._admin_port: Final = admin_port
        self._capacity_changes: Final = capacity_changes
        self._performer: Final = Performer(rules, account, log, clock, admin_port)

    def handle(self, messages: Sequence[Message]) -> list[Verdict]:
        """A verdict for each: Done, it can be deleted; Again, it must come back. Raises nothing."""
        try:
            return self._handle(messages)
        except Exception as exc:  # noqa: BLE001 - a message that meets a bug must not hold up all others
            if len(messages) > 1:
                return [verdict for message in messages for verdict in self.handle([message])]
            self._log("notice.failed", error=f"{type(exc).__name__}: {exc}", again_s=_BACKOFF_S[-1])
            return [Again(_BACKOFF_S[-1])]

    def _handle(self, messages: Sequence[Message]) -> list[Verdict]:
        read = [self._read(message) for message in messages]
        receives: dict[Notice, int] = {}
        for message, notices in zip(messages, read, strict=True):
            for notice in notices:
                receives[notice] = min(message.receives, receives.get(notice, message.receives))
        verdicts: dict[Notice, Verdict] = {}
        began = self._clock()
        for turn in by_turns(receives):
            if self._clock() - began >= _TURNS_S:
                verdicts |= dict.fromkeys(turn, Again(_BACKOFF_S[0]))
            else:
                verdicts |= self._follow({notice: receives[notice] for notice in turn})
        return [_together(verdicts[notice] for notice in notices) for notices in read]

    def _read(self, message: Message) -> tuple[Notice, ...]:
        found = parse(message.body, message.sent)
        if isinstance(found, NotANotice):
            self._log("notice.dropped", reason=found.reason)
            return ()
        return found

    def _follow(self, notices: Mapping[Notice, int]) -> dict[Notice, Verdict]:
        """Each with how often it was received. No instance is in more than one."""
        hooks = {
            (notice.group, notice.hook) for notice in notices if isinstance(notice, (Termination, Launch))
        }
        try:
            sizes = any(isinstance(n, (DrainRequest, Maintenance, UndrainRequest)) for n in notices)
            ids = [notice.instance_id for notice in notices]
            facts = self._account.look(self._rules.stack, ids, hooks, sizes=sizes)
        except AwsFailed as exc:
            self._record(notices, Facts())  # whose they are is not known, and comes to light later
            return {notice: self._failed(notice, receives, exc) for notice, receives in notices.items()}
        self._record(notices, facts)
        tasks = self._paced(side_by_side(lambda notice: self._task(notice, facts), list(notices)), notices)
        outcomes = self._performer.run(tasks)
        if any(
            receives == 1 and self._will_be_missed(task)
            for task, receives in zip(tasks, notices.values(), strict=True)
        ):
            self._capacity_changes(self._clock())
        return {
            task.notice: self._verdict(task.notice, notices[task.notice], outcome)
            for task, outcome in zip(tasks, outcomes, strict=True)
        }

    def _paced(self, asked: Sequence[Task], notices: Mapping[Notice, int]) -> list[Task]:
        """What waits is said once."""
        tasks = paced(asked, self._clock(), self._rules)
        for before, task in zip(asked, tasks, strict=True):
            if task is not before and notices[task.notice] == 1:
                self._log("notice.waits", **task.names, reason="its tier cannot spare it yet")
        return tasks

    def _task(self, notice: Notice, facts: Facts) -> Task:
        instance = facts.instances.get(notice.instance_id)
        state = self._state(notice, instance)
        now, heartbeat_s = self._clock(), _heartbeat(notice, facts)
        if isinstance(notice, Launch):
            actions = launch.decide(
                notice, instance, state, now=now, heartbeat_s=heartbeat_s, rules=self._rules
            )
        else:
            actions = decide(notice, instance, state, now=now, heartbeat_s=heartbeat_s, rules=self._rules)
        return Task(notice, instance, actions)

    def _state(self, notice: Notice, instance: Instance | None) -> NodeState:
        if instance is None or not instance.alive or instance.address is None:
            return NodeState("dead")
        if instance.stack != self._rules.stack or isinstance(notice, Rebalance):
            return NodeState("silent")  # not ours to ask, or nothing to ask for
        return node.state(instance.address, self._admin_port)

    def _record(self, notices: Mapping[Notice, int], facts: Facts) -> None:
        """Of our own instances only: spot events cannot be filtered, and tell of the whole account's."""
        for notice, receives in notices.items():
            instance = facts.instances.get(notice.instance_id)
            if receives != 1 or (instance is not None and instance.stack != self._rules.stack):
                continue
            if not isinstance(notice, StateChange):
                self._seen(notice, instance, _heartbeat(notice, facts))
            elif instance is not None:
                self._log(
                    "instance.ended", instance_id=notice.instance_id, tier=instance.tier, state=notice.state
                )

    def _seen(self, notice: Notice, instance: Instance | None, heartbeat_s: float | None) -> None:
        asked = notice if isinstance(notice, (DrainRequest, UndrainRequest)) else None
        self._log(
            "notice.seen",
            instance_id=notice.instance_id,
            tier=instance and instance.tier,
            kind=notice.kind,
            deadline=deadline_of(notice, heartbeat_s, self._rules),
            reason=asked and asked.reason,
            by=asked and asked.by,
            request=asked and asked.request,
        )

    def _will_be_missed(self, task: Task) -> bool:
        ours = task.instance is not None and task.instance.stack == self._rules.stack
        return ours and not isinstance(task.notice, (UndrainRequest, Launch))

    def _verdict(self, notice: Notice, receives: int, outcome: Outcome) -> Verdict:
        return self._failed(notice, receives, outcome.error) if isinstance(outcome, Failed) else outcome

    def _failed(self, notice: Notice, receives: int, problem: AwsFailed) -> Again:
        pause_s = _BACKOFF_S[min(receives, len(_BACKOFF_S)) - 1]
        self._log(
            "notice.failed",
            instance_id=notice.instance_id,
            kind=notice.kind,
            error=str(problem),
            again_s=pause_s,
        )
        return Again(pause_s)


def _heartbeat(notice: Notice, facts: Facts) -> float | None:
    if not isinstance(notice, (Termination, Launch)):
        return None
    return facts.heartbeats.get((notice.group, notice.hook))


def _together(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a message with several notices: it comes back for the first that needs it."""
    pauses = [verdict.seconds for verdict in verdicts if isinstance(verdict, Again)]
    return Again(min(pauses)) if pauses else Done()
