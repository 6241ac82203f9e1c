"""A small world in which every order of events can be tried: one instance of a group, its node, the queue of
its notices, and handlers that stop between any two of their calls. Pure: a state is a value, and `steps`
gives every state that can come next.

What AWS does is as its documentation says: Auto Scaling's lifecycle, DetachInstances, EnterStandby and
ExitStandby, and TerminateInstanceInAutoScalingGroup, each without lowering what the group wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

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
from fleet.control.drain import Instance, NodeState, Rules, decide
from fleet.control.notices import (
    DrainRequest,
    Interruption,
    Maintenance,
    Notice,
    Rebalance,
    StateChange,
    Termination,
    UndrainRequest,
)

Decide: TypeAlias = Callable[..., list[Action]]

RULES = Rules("ours")
ADDRESS = "127.0.0.9"
HOOK_S = 120.0
AT_ONCE = 2  # handlers at work
MOMENTS = (0.0, 111.0, 121.0)
"""At first; past what a hook's 120 s leave to the handler; past a spot notice's 120 s."""

INTERRUPTION = Interruption("i-1", 0.0)
REBALANCE = Rebalance("i-1", 0.0)
MAINTENANCE = Maintenance("i-1", 0.0, "RETIREMENT", 100.0)
DRAIN = DrainRequest("i-1", 0.0, "bad disk", "ann", "r-1", 90.0)
UNDRAIN = UndrainRequest("i-1", 1.0, "better", "ann", "r-2")


class Handler(NamedTuple):
    """One that is at work: what it has seen, then what it still has to do."""

    notice: Notice
    seen: Instance | None = None
    left: tuple[Action, ...] | None = None


class Budget(NamedTuple):
    """What may still happen. Interruption and the like are events of the scenario."""

    events: tuple[str, ...]
    deaths: int = 1
    crashes: int = 0
    duplicates: int = 0
    silences: int = 0  # times that the node does not answer in time

    def spent_of(self, start: Budget) -> int:
        """What has happened since `start`, deaths and events apart."""
        return start.crashes + start.duplicates + start.silences - sum(self[2:])


class State(NamedTuple):
    now: float
    budget: Budget
    stack: str = "ours"
    # The account.
    alive: bool = True
    member: str | None = "InService"
    hook: Termination | None = None  # that waits
    undrained_at: float | None = None
    desired: int = 1  # of what the instance and its replacements are
    launched: int = 0
    interrupted: bool = False
    answered: bool = False  # the recommendation, by capacity rebalance
    # The node.
    up: bool = True
    phase: str = "serving"
    deadline: float | None = None
    bound: bool = False
    undrains: int = 0
    told: tuple[str, ...] = ()  # the kind of notice of each order to drain, by handlers
    # What goes on.
    queue: frozenset[Notice] = frozenset()
    sent: frozenset[Notice] = frozenset()
    handlers: tuple[Handler, ...] = ()

    @property
    def quiet(self) -> bool:
        return not self.queue and not self.handlers

    @property
    def instance(self) -> Instance:
        inside = self.member is not None
        return Instance(
            "i-1",
            self.stack,
            ADDRESS,
            self.alive,
            "g" if inside else None,
            self.member,
            ("tg",) if inside else (),
            room=True,
            undrained_at=self.undrained_at,
        )


def steps(state: State, decided: Decide = decide) -> Iterator[tuple[str, State]]:
    """What may come next, each with its name. What a dead node was is forgotten."""
    for name, after in _steps(state, decided):
        if not after.up:
            after = after._replace(phase="serving", deadline=None, bound=False)
        yield name, after


def _steps(state: State, decided: Decide) -> Iterator[tuple[str, State]]:
    yield from _happenings(state)
    yield from _of_aws(state)
    yield from _of_node(state)
    for notice in state.queue if len(state.handlers) < AT_ONCE else ():
        began = _with(state._replace(queue=state.queue - {notice}), Handler(notice))
        yield f"receive {notice.kind}", began
        if state.budget.duplicates:
            fewer = state.budget._replace(duplicates=state.budget.duplicates - 1)
            yield f"receive {notice.kind}, and keep it", _with(state._replace(budget=fewer), Handler(notice))
    for place, handler in enumerate(state.handlers):
        without = state._replace(handlers=(*state.handlers[:place], *state.handlers[place + 1 :]))
        yield f"handle {handler.notice.kind}", _go_on(without, handler, decided)
        if state.budget.crashes:
            fewer = state.budget._replace(crashes=state.budget.crashes - 1)
            yield "crash", _back(without._replace(budget=fewer), handler.notice)
        if state.budget.silences and state.up:
            fewer = state.budget._replace(silences=state.budget.silences - 1)
            yield from _silently(without._replace(budget=fewer), handler, decided)


def _silently(state: State, handler: Handler, decided: Decide) -> Iterator[tuple[str, State]]:
    """The node is asked, or told, and does not answer."""
    if handler.left is None and handler.seen is not None:
        yield f"silence for {handler.notice.kind}", _go_on(state, handler, decided, NodeState("silent"))
    elif handler.left and isinstance(handler.left[0], (TellNode, Undrain)):
        yield f"{handler.notice.kind} unheard", _back(state, handler.notice)


def handled(state: State, notice: Notice, decided: Decide = decide) -> State:
    """A message from its receipt to its end, with nothing else in between."""
    state = _with(state._replace(queue=state.queue - {notice}), Handler(notice))
    while state.handlers:
        *others, last = state.handlers
        state = _go_on(state._replace(handlers=tuple(others)), last, decided)
    return state


def rested(state: State) -> State:
    """Once AWS has done all that it does by itself, and the node all its work."""
    while after := next((it for _, it in _of_aws(state)), None):
        state = after
    return state._replace(phase="empty") if state.up and state.phase == "draining" else state


def _happenings(state: State) -> Iterator[tuple[str, State]]:
    """Each event of the scenario once, at any time before the last moment."""
    if state.now >= MOMENTS[-1]:
        return
    for event in dict.fromkeys(state.budget.events):
        others = list(state.budget.events)
        others.remove(event)
        happened = _EVENTS[event](state)
        if happened is not None:
            yield event, happened._replace(budget=state.budget._replace(events=tuple(others)))
    yield "time passes", state._replace(now=MOMENTS[MOMENTS.index(state.now) + 1])


def _of_aws(state: State) -> Iterator[tuple[str, State]]:
    """What AWS does by itself, whenever it comes to it."""
    if state.interrupted and state.alive and state.now >= INTERRUPTION.at + 120:
        yield "EC2 takes it", _send(_gone(state), StateChange("i-1", state.now, "terminated"))
    if state.member == "InService" and REBALANCE in state.sent and not state.answered:
        answered = state._replace(launched=state.launched + 1, answered=True)
        yield "the group answers the recommendation", _terminating(answered)
    if state.member == "InService" and not (state.alive and state.up and state.phase == "serving"):
        yield "the group finds it unhealthy", _terminating(state)
    if state.member == "Terminating:Proceed":
        yield "the group ends it", _gone(state)._replace(member=None)


def _of_node(state: State) -> Iterator[tuple[str, State]]:
    if state.up and state.phase == "draining":
        yield "the node is empty", state._replace(phase="empty")
    if state.up and not state.bound and (state.interrupted or (state.member or "").startswith("Terminating")):
        deadline = 120.0 if state.interrupted or state.hook is None else state.hook.at + 120.0
        yield "the node hears by itself", _told(state, deadline)._replace(bound=True)
    if state.up and state.budget.deaths:
        dead = state.budget._replace(deaths=state.budget.deaths - 1)
        yield "the node dies", state._replace(up=False, budget=dead)


def _interrupt(state: State) -> State | None:
    return _send(state._replace(interrupted=True), INTERRUPTION) if state.alive else None


def _end(state: State) -> State | None:
    """Somebody terminates the instance, by EC2."""
    ended = _gone(state)
    return _send(ended, StateChange("i-1", state.now, "terminated")) if state.alive else None


def _scale_in(state: State) -> State | None:
    if state.member != "InService" or not state.alive:
        return None
    return _terminating(state._replace(desired=state.desired - 1))


_EVENTS: dict[str, Callable[[State], State | None]] = {
    "interruption": _interrupt,
    "rebalance": lambda state: _send(state, REBALANCE),
    "maintenance": lambda state: _send(state, MAINTENANCE),
    "drain": lambda state: _send(state, DRAIN),
    "undrain": lambda state: _send(state, UNDRAIN),
    "scale-in": _scale_in,
    "end": _end,
}
EVENTS = tuple(_EVENTS)


def _go_on(state: State, handler: Handler, decided: Decide, node: NodeState | None = None) -> State:
    """One call of a handler: look at the account, ask the node and decide, or do the next thing. `node` is
    what it says, when that is not what it is.
    """
    if handler.left is None and handler.seen is None:
        return _with(state, handler._replace(seen=state.instance))
    if handler.left is None:
        actions = decided(
            handler.notice,
            handler.seen,
            node or _node_state(state),
            now=state.now,
            heartbeat_s=HOOK_S if isinstance(handler.notice, Termination) else None,
            rules=RULES,
        )
        # Leaving the balancer changes nothing that anybody decides by.
        left = tuple(action for action in actions if not isinstance(action, (Deregister, Drop)))
        return _with(state, handler._replace(seen=None, left=left)) if left else state
    action, rest = handler.left[0], handler.left[1:]
    if isinstance(action, Undrain) and not state.up:
        return _back(state, handler.notice)
    if isinstance(action, Undrain) and state.bound:  # refused, and nothing after it is done
        return _retire(state) if isinstance(handler.notice, DrainRequest) else state
    after = _do(state, action)
    if after is None:
        return _back(state, handler.notice)
    if isinstance(action, TellNode):
        after = after._replace(told=tuple(sorted((*after.told, handler.notice.kind))))
    return _with(after, handler._replace(left=rest)) if rest else after


def _do(state: State, action: Action) -> State | None:
    """None where the message has to come back."""
    match action:
        case Detach():
            return _member(state, None) if state.member in ("InService", "Standby") else state
        case EnterStandby():
            return _member(state, "Standby") if state.member == "InService" else None
        case ExitStandby():
            back = state._replace(desired=state.desired + 1)
            return _member(back, "InService") if state.member == "Standby" else None
        case Retire():
            return _retire(state)
        case TellNode(_, _, deadline):
            return _told(state, deadline) if state.up else state
        case Undrain():
            return _undrain(state)
        case RememberUndrain(at):
            return state._replace(undrained_at=at)
        case LetGo(notice, _):
            return _let_go(state, notice)
        case LookAgain():
            return None
    return state


def _member(state: State, member: str | None) -> State:
    """The group launches whatever it lacks, at once."""
    state = state._replace(member=member)
    lacks = state.desired - state.launched - (member == "InService")
    return state._replace(launched=state.launched + max(0, lacks))


def _retire(state: State) -> State:
    return _terminating(state) if state.member in ("InService", "Standby") else state


def _undrain(state: State) -> State:
    if state.phase == "serving":
        return state
    return state._replace(phase="serving", deadline=None, undrains=state.undrains + 1)


def _let_go(state: State, notice: Termination) -> State:
    return state if state.hook != notice else state._replace(hook=None, member="Terminating:Proceed")


def _terminating(state: State) -> State:
    hook = Termination("i-1", state.now, "g", "drain", "t")
    return _send(_member(state._replace(hook=hook), "Terminating:Wait"), hook)


def _told(state: State, deadline: float) -> State:
    """The first starts the drain, a later one only brings its deadline forward."""
    if state.phase == "serving":
        return state._replace(phase="draining", deadline=deadline)
    return state._replace(deadline=min(deadline, state.deadline if state.deadline is not None else deadline))


def _gone(state: State) -> State:
    return state._replace(alive=False, up=False)


def _node_state(state: State) -> NodeState:
    if not state.up or not state.alive:
        return NodeState("dead")
    phase = {"draining": "accepting"}.get(state.phase, state.phase)
    return NodeState(phase, state.deadline)


def _send(state: State, *notices: Notice) -> State:
    return state._replace(queue=state.queue | set(notices), sent=state.sent | set(notices))


def _back(state: State, notice: Notice) -> State:
    return state._replace(queue=state.queue | {notice})


def _with(state: State, handler: Handler) -> State:
    """Handlers are alike but for what they do: who came first is no difference."""
    return state._replace(handlers=tuple(sorted((*state.handlers, handler), key=_order)))


def _order(handler: Handler) -> tuple[str, bool, int]:
    return handler.notice.kind, handler.seen is None, len(handler.left or ())
