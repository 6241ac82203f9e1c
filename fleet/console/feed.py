"""Reads AWS in one thread for all viewers, and keeps what it read last when AWS fails.

Viewers take the latest frame when they are ready for one: a slow viewer skips frames and costs no memory.
While nobody looks, nothing is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from fleet.console.losses import Losses
from fleet.console.picture import Failure, Part, Reading
from fleet.console.stories import Entry
from fleet.errors import GoldenfleetError
from fleet.oncall.history import NoticeEvent, NoticeKey
from fleet.oncall.snapshot import Snapshot

NOTICES_EVERY_S = 1.0
"""One FilterLogEvents: AWS gives an account 5 a second ("Troubleshoot CloudWatch Logs throttling", AWS)."""
HEARTBEAT_S = 5.0
SLOWEST_S = 30.0
HISTORY_S = 3600.0

# CloudWatch Logs shows events out of order, those of another stream later.
_OVERLAP_S = 60.0
_MOST_ENTRIES = 2000
_log = logging.getLogger(__name__)


class Source(Protocol):
    """What the feed reads; every method may raise GoldenfleetError."""

    def snapshot(self) -> Snapshot: ...
    def history(self, since: float) -> Iterable[NoticeEvent]: ...
    def losses(self, snapshot: Snapshot) -> Losses: ...


@dataclass
class _Task:
    part: Part
    every_s: float
    read: Callable[[], None]
    due: float = 0.0
    failed: int = 0

    def wait_s(self) -> float:
        """Twice as long after each failure: what throttles must not be asked more."""
        return max(self.every_s, min(SLOWEST_S, self.every_s * float(1 << min(self.failed, 10))))


@dataclass(frozen=True)
class Frame:
    number: int = 0
    data: bytes = b""


@dataclass
class _Viewers:
    """Who waits for the next frame, each on its own event loop."""

    waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)

    def wake(self) -> None:
        for loop, event in self.waiting:
            loop.call_soon_threadsafe(event.set)


class Feed:
    """`clock` gives unix seconds, `monotonic` paces; `render` makes the page's JSON of a reading."""

    def __init__(
        self,
        source: Source,
        stack: str,
        *,
        interval_s: float,
        render: Callable[[Reading], object],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._source, self._render = source, render
        self._clock, self._monotonic = clock, monotonic
        self._reading = Reading(stack)
        self._read_until = clock() - HISTORY_S
        self._told: frozenset[NoticeKey] = frozenset()
        self._frame, self._viewers = Frame(), _Viewers()
        self._changed = threading.Condition()
        self._closed = False
        self._tasks = (
            _Task("notices", min(NOTICES_EVERY_S, interval_s), self._read_history),
            _Task("fleet", interval_s, self._read_snapshot),
            _Task("lost", interval_s, self._read_losses),
        )
        # A call to AWS that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="console-feed", daemon=True)

    def start(self) -> None:
        self._publish()
        self._thread.start()

    def close(self) -> None:
        """Ends every viewer's frames."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._viewers.wake()

    @property
    def viewers(self) -> int:
        return len(self._viewers.waiting)

    def hasten(self) -> None:
        """Read all anew: something was changed from here."""
        with self._changed:
            for task in self._tasks:
                task.due = 0.0
            self._changed.notify_all()

    async def frames(self) -> AsyncGenerator[Frame | None]:
        """The latest frame, then each newer one there is when asked for; None where none came for long."""
        woken = asyncio.Event()
        me = asyncio.get_running_loop(), woken
        with self._changed:
            self._viewers.waiting.add(me)
            self._changed.notify_all()
        given = 0
        try:
            while not self._closed:
                woken.clear()
                frame = self._frame
                if frame.number > given:
                    given = frame.number
                    yield frame
                elif not await _within(woken, HEARTBEAT_S):
                    yield None
        finally:
            with self._changed:
                self._viewers.waiting.discard(me)

    def _run(self) -> None:
        while self._wait():
            due = [task for task in self._tasks if task.due <= self._monotonic()]
            for task in due:
                self._carry_out(task)
            if due:
                self._publish()

    def _wait(self) -> bool:
        """Until somebody looks and something is due; False when closed."""
        with self._changed:
            while not self._closed:
                left_s = min(task.due for task in self._tasks) - self._monotonic()
                if self._viewers.waiting and left_s <= 0:
                    return True
                self._changed.wait(max(left_s, 0.0) if self._viewers.waiting else None)
        return False

    def _carry_out(self, task: _Task) -> None:
        task.due = self._monotonic() + task.every_s
        try:
            task.read()
        except GoldenfleetError as error:
            self._failed(task, error.message, error.hint)
        except Exception as error:  # noqa: BLE001  the thread's boundary: it must say so and live on
            _log.exception("the console could not read %s", task.part)
            self._failed(task, f"a bug of the console: {error!r}", "")
        else:
            task.failed = 0
            self._reading = replace(
                self._reading,
                failures={part: why for part, why in self._reading.failures.items() if part != task.part},
            )

    def _failed(self, task: _Task, message: str, hint: str) -> None:
        task.failed += 1
        task.due = self._monotonic() + task.wait_s()
        before = self._reading.failures.get(task.part)
        since = before.since if before else self._clock()
        failures = {**self._reading.failures, task.part: Failure(message, hint, since)}
        self._reading = replace(self._reading, failures=failures)

    def _read_snapshot(self) -> None:
        self._reading = replace(self._reading, snapshot=self._source.snapshot())

    def _read_losses(self) -> None:
        if self._reading.snapshot is not None:
            self._reading = replace(self._reading, losses=self._source.losses(self._reading.snapshot))

    def _read_history(self) -> None:
        known, now = self._reading.entries, self._clock()
        since = max(self._read_until - _OVERLAP_S, now - HISTORY_S)
        there = {event.key: event for event in self._source.history(since)}
        fresh = [event for key, event in there.items() if key not in self._told]
        # None begins earlier than the one before it: what this look did not have cannot come again.
        self._told, self._read_until = frozenset(there), now
        if not fresh:
            return
        number = known[-1].number if known else 0
        entries = (*known, *(Entry(number + 1 + i, event) for i, event in enumerate(fresh)))
        self._reading = replace(self._reading, entries=entries[-_MOST_ENTRIES:])
        # What the notice was about shows at once, too.
        self._tasks[1].due = 0.0

    def _publish(self) -> None:
        try:
            data = json.dumps(self._render(self._reading), separators=(",", ":")).encode()
        except Exception:  # noqa: BLE001  the thread's boundary again: the page keeps what it has, and says how old it is
            _log.exception("the console could not show what it read")
            return
        if data == self._frame.data:
            return  # mostly it was only the log of notices that was looked at
        with self._changed:
            self._frame = Frame(self._frame.number + 1, data)
            self._viewers.wake()


async def _within(woken: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await woken.wait()
    except TimeoutError:
        return False
