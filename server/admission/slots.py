"""Places for requests that wait for their first token, and the queue before them.

A place is free again at the first token. That wait is what gradient2 measures, so that by Little's law the
number of places and the signal belong together; a stream that decodes for minutes, or that a slow client
reads, delays nobody's first token as long as engines take it into their batch, and a stream that is resumed
must never have to ask for a place again.

Within a class the queue is first come, first served. LIFO and CoDel exist because a server cannot tell
who has given up: this one can, for a request leaves the queue when its client does, and at its deadline.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from server.admission.gradient import Gradient
from server.auth.principal import Priority
from server.errors import Overloaded

_RETRY_AFTER_MS = 1000


@dataclass(eq=False, slots=True)
class _Waiter:
    place: asyncio.Future[None]
    priority: Priority


class Slots:
    """`clock` is monotonic seconds; `most_waiting` bounds the queue; `shed` is told of each refusal."""

    def __init__(
        self,
        gradient: Gradient,
        *,
        most_waiting: int,
        clock: Callable[[], float],
        rng: Random,
        shed: Callable[[Priority], None] = lambda _: None,
    ) -> None:
        self.gradient = gradient
        self._most_waiting = most_waiting
        self._clock = clock
        self._rng = rng
        self._queues: dict[Priority, deque[_Waiter]] = {
            priority: deque() for priority in sorted(Priority, reverse=True)
        }
        # When the places of answers that come whole are taken to decode, in the order of time.
        self._expiring: deque[tuple[float, Slot]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = 0
        self.in_use = 0
        self._shed = shed

    def try_acquire(self) -> "Slot | None":
        """A place, if there is one and nobody was there before."""
        if self._expiring:
            self._expire()
        if self.waiting or self.in_use >= self.gradient.limit:
            return None
        self.in_use += 1
        return Slot(self, self._clock())

    async def acquire(self, priority: Priority, seconds: float) -> "Slot":
        """A place, waited for. Raises Overloaded after `seconds`, or at once where the queue is full."""
        slot = self.try_acquire()
        if slot is not None:
            return slot
        if self.waiting >= self._most_waiting and not self._evict_below(priority):
            raise self._overloaded(priority)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), priority)
        self._queues[priority].append(waiter)
        self.waiting += 1
        self._watch_expiry()
        try:
            async with asyncio.timeout(seconds):
                await waiter.place
        except TimeoutError as exc:
            self._leave(waiter)
            raise self._overloaded(priority) from exc
        except BaseException:
            self._leave(waiter)
            raise
        return Slot(self, self._clock())

    def release(self) -> None:
        """A place is free: the next in the queue gets it."""
        self.in_use -= 1
        self._hand_out()

    def refused(self) -> None:
        """The nodes would not take a request."""
        self.gradient.refused(self._clock())

    def expire_later(self, slot: "Slot") -> None:
        """Take `slot` for decoding once the typical wait for a first token is over."""
        typical_s = self.gradient.typical_s
        if typical_s is not None:
            self._expiring.append((slot.began + typical_s, slot))

    def _hand_out(self) -> None:
        while self.waiting and self.in_use < self.gradient.limit:
            waiter = next(queue for queue in self._queues.values() if queue).popleft()
            self.waiting -= 1
            if not waiter.place.done():
                self.in_use += 1
                waiter.place.set_result(None)

    def _leave(self, waiter: _Waiter) -> None:
        """A waiter stops waiting: out of the queue, or back with the place that came too late."""
        if waiter in self._queues[waiter.priority]:
            self._queues[waiter.priority].remove(waiter)
            self.waiting -= 1
        elif waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
            self.release()

    def _evict_below(self, priority: Priority) -> bool:
        """Refuse the one that has waited least in the lowest class under `priority`."""
        for lower in sorted(Priority):
            if lower < priority and self._queues[lower]:
                waiter = self._queues[lower].pop()
                self.waiting -= 1
                if not waiter.place.done():
                    waiter.place.set_exception(self._overloaded(lower))
                return True
        return False

    def _overloaded(self, priority: Priority) -> Overloaded:
        self._shed(priority)
        # Spread, so that those who were refused together do not come back together.
        return Overloaded(retry_after_ms=int(_RETRY_AFTER_MS * (1 + self._rng.random())))

    def _expire(self) -> None:
        now = self._clock()
        while self._expiring and (self._expiring[0][0] <= now or self._expiring[0][1].released):
            self._expiring.popleft()[1].release()

    def _watch_expiry(self) -> None:
        """While requests queue, places that expire must be seen to."""
        if self._timer is not None or not self._expiring:
            return
        delay = max(0.0, self._expiring[0][0] - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay + 0.001, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._expire()
        if self.waiting:
            self._watch_expiry()


class Slot:
    """One place, released once: at the first token, or at the end of a request that never had one."""

    __slots__ = ("_slots", "began", "released")

    def __init__(self, slots: Slots, began: float) -> None:
        self._slots = slots
        self.began = began
        self.released = False

    def first_token(self) -> None:
        slots = self._slots
        if not self.released:
            now = slots._clock()
            slots.gradient.sample(now - self.began, slots.in_use, now)
            self.release()

    def end(self) -> None:
        """The request is over; if its first token was not seen, nothing is learned of how long that took."""
        if not self.released:
            self._slots.gradient.answered()
            self.release()

    def release(self) -> None:
        if not self.released:
            self.released = True
            self._slots.release()
