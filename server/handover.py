"""Requests that end themselves: at their deadline, or when this node hands its work over."""

from __future__ import annotations

import asyncio
from types import TracebackType

from server.drain import Drain
from server.errors import DeadlineExceeded, NodeDraining

# How often a node that has handed over looks whether its drain was called off.
_RECHECK_S = 1.0


class Handover:
    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._running: set[asyncio.Timeout] = set()

    def within(self, seconds: float) -> Scope:
        """Bounds what runs inside. Raises DeadlineExceeded, or NodeDraining at the handover."""
        return Scope(self._drain, self._running, seconds)

    async def watch(self) -> None:
        """For ever: end what runs as soon as the drain says so."""
        while True:
            await self._drain.handover.wait()
            now = asyncio.get_running_loop().time()
            for scope in [scope for scope in self._running if not scope.expired()]:
                scope.reschedule(now)
            await asyncio.sleep(_RECHECK_S)


class Scope:
    """What `async with handover.within(...)` enters."""

    __slots__ = ("_drain", "_running", "_timeout")

    def __init__(self, drain: Drain, running: set[asyncio.Timeout], seconds: float) -> None:
        self._drain = drain
        self._running = running
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._running.add(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.discard(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as exc:
            if self._drain.handover.is_set():
                raise NodeDraining from exc
            raise DeadlineExceeded(
                "The request took longer than it may; ask for fewer tokens.", should_retry=False
            ) from exc
