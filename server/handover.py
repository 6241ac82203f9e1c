"""Requests that end themselves: at their deadline, or when this node hands its work over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.drain import Drain
from server.errors import DeadlineExceeded, NodeDraining

# How often a node that has handed over looks whether its drain was called off.
_RECHECK_S = 1.0


class Handover:
    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._running: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Bounds what runs inside. Raises DeadlineExceeded, or NodeDraining at the handover."""
        try:
            async with asyncio.timeout(seconds) as scope:
                self._running.add(scope)
                try:
                    yield
                finally:
                    self._running.discard(scope)
        except TimeoutError as exc:
            if not scope.expired():
                raise
            if self._drain.handover.is_set():
                raise NodeDraining from exc
            raise DeadlineExceeded(
                "The request took longer than it may; ask for fewer tokens.", should_retry=False
            ) from exc

    async def watch(self) -> None:
        """For ever: end what runs as soon as the drain says so."""
        while True:
            await self._drain.handover.wait()
            now = asyncio.get_running_loop().time()
            for scope in [scope for scope in self._running if not scope.expired()]:
                scope.reschedule(now)
            await asyncio.sleep(_RECHECK_S)
