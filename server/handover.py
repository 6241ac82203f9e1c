"""Requests that end themselves: at their deadline, or when this node hands its work over."""

from __future__ import annotations

import asyncio
from types import TracebackType

from server.drain import Drain
from server.errors import DeadlineExceeded, NodeDraining

# How often a node that has handed over looks whether its drain was called off.
_RECHECK_S = 1.0
# How late a deadline may be noticed. One timer serves all requests: none has one of its own.
_TICK_S = 0.05
# Time that was spent before counts in steps of this, so that most requests have one length.
_SPENT_STEP_S = 0.25


class Handover:
    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        # Those of one length run out in the order in which they began.
        self._running: dict[float, dict[Scope, None]] = {}
        self._ticking = False

    def within(self, seconds: float, spent_s: float = 0.0) -> Scope:
        """Bounds what runs inside, `spent_s` of whose seconds are over, to a quarter of one. Raises
        DeadlineExceeded, or NodeDraining at the handover.
        """
        return Scope(self, max(0.0, seconds - spent_s // _SPENT_STEP_S * _SPENT_STEP_S))

    async def watch(self) -> None:
        """For ever: end what runs as soon as the drain says so."""
        loop = asyncio.get_running_loop()
        while True:
            await self._drain.handover.wait()
            for scopes in self._running.values():
                for scope in scopes:
                    # What has just arrived is passed on first.
                    loop.call_soon(scope.expire)
            await asyncio.sleep(_RECHECK_S)

    def begin(self, scope: Scope) -> None:
        scopes = self._running.get(scope.seconds)
        if scopes is None:
            scopes = self._running[scope.seconds] = {}
        scopes[scope] = None
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def end(self, scope: Scope) -> None:
        scopes = self._running[scope.seconds]
        del scopes[scope]
        if not scopes:
            del self._running[scope.seconds]

    def ended_by(self) -> NodeDraining | DeadlineExceeded:
        """What a request is told that was ended here."""
        if self._drain.handover.is_set():
            return NodeDraining()
        return DeadlineExceeded(
            "The request took longer than it may; ask for fewer tokens.", should_retry=False
        )

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        for scopes in list(self._running.values()):
            for scope in list(scopes):
                if now < scope.due:
                    break
                scope.expire()
        self._ticking = bool(self._running)
        if self._ticking:
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)


class Scope:
    """What `async with handover.within(...)` enters: asyncio.timeout, without a timer for each.

    `due` is on the loop's clock.
    """

    __slots__ = ("_before", "_expired", "_handover", "_task", "due", "seconds")

    def __init__(self, handover: Handover, seconds: float) -> None:
        self.seconds = seconds
        self.due = 0.0
        self._handover = handover
        self._expired = False
        self._before = 0
        self._task: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._before = self._task.cancelling()
        self.due = asyncio.get_running_loop().time() + self.seconds
        self._handover.begin(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handover.end(self)
        task, self._task = self._task, None
        if not self._expired or task is None:
            return
        # As asyncio.Timeout does: whoever else cancelled the task has the last word.
        if task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise self._handover.ended_by() from error

    def expire(self) -> None:
        """End what runs inside, once."""
        if not self._expired and self._task is not None:
            self._expired = True
            self._task.cancel()
