"""What follows a notice: leave the load balancer, finish or hand over the work, let go."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

Phase = Literal["serving", "accepting", "refusing", "handing_over", "empty"]

# Shares of the time between notice and deadline, from the drain budget of a 120 s spot notice: load
# balancers go on sending for up to 36 s after deregistration, so requests are still accepted that long;
# at 100 s what still streams is handed over, so that it resumes elsewhere; at 110 s the node is let go.
REFUSE_AT = 0.30
HAND_OVER_AT = 0.83
DONE_AT = 0.92
# However late the word comes, what runs gets this long to say that it is handed over, before it is cut.
HAND_OVER_S = 0.25

_NEXT: dict[Phase, tuple[float, Phase]] = {
    "accepting": (REFUSE_AT, "refusing"),
    "refusing": (HAND_OVER_AT, "handing_over"),
    "handing_over": (DONE_AT, "empty"),
}


class Timer(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None: ...


class EventLog(Protocol):
    """Where named events with fields go."""

    def info(self, event: str, **fields: object) -> object: ...


class Drain:
    """The one drain of this process, whatever asked for it.

    The first notice starts it; a later one may only bring the deadline forward. `clock` gives unix
    seconds, `call_later` schedules on the event loop, `entered` is told each new phase. `handover` is set
    while what still runs must end itself, so that it is resumed elsewhere.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
        log: EventLog,
        entered: Callable[[Phase], None],
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._log = log
        self._entered = entered
        self._timer: Timer | None = None
        self._binding = False
        self._refused = False
        self._handing_over_at = 0.0
        self.phase: Phase = "serving"
        self.reason: str | None = None
        self.source: str | None = None
        self.started_at: float | None = None
        self.deadline: float | None = None
        self.running = 0
        self.handover = asyncio.Event()

    @property
    def draining(self) -> bool:
        return self.phase != "serving"

    @property
    def binding(self) -> bool:
        """Whether AWS itself takes the instance, so that nobody can call the drain off."""
        return self._binding

    @property
    def accepts(self) -> bool:
        """Whether a new request is served."""
        return self.phase in ("serving", "accepting")

    def start(self, reason: str, deadline: float, source: str) -> bool:
        """Begin to drain by `deadline` (unix seconds), or hurry; False when nothing changes."""
        # AWS takes the instance whatever we wish, so its word cannot be undone by a person.
        self._binding = self._binding or source == "imds"
        if self.deadline is not None and deadline >= self.deadline:
            return False
        self.deadline = deadline
        if self.started_at is None:
            self.started_at, self.reason, self.source = self._clock(), reason, source
            self._set("accepting")
        self._log.info("drain.started", reason=reason, deadline=deadline, source=source)
        self._advance()
        return True

    def cancel(self) -> bool:
        """Serve again; False when not draining, or when the instance itself is being taken away."""
        if not self.draining or self._binding:
            return False
        self._stop_timer()
        self.reason = self.source = self.started_at = self.deadline = None
        self._refused = False
        self.handover.clear()
        self._log.info("drain.cancelled")
        self._set("serving")
        return True

    def enter(self) -> None:
        """A request is under way."""
        self.running += 1

    def exit(self) -> None:
        """A request is over."""
        self.running -= 1
        self._settle()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Counts one request."""
        self.enter()
        try:
            yield
        finally:
            self.exit()

    def refused(self) -> None:
        """A request was refused because of the drain."""
        if not self._refused:
            self._refused = True
            self._log.info("drain.refused_first")

    def _advance(self) -> None:
        """Enter every phase whose time has come, and wait for the next."""
        self._stop_timer()
        while self.phase in _NEXT:
            share, phase = _NEXT[self.phase]
            wait_s = self._due(share) - self._clock()
            if wait_s > 0:
                self._timer = self._call_later(wait_s, self._advance)
                return
            self._enter(phase)

    def _due(self, share: float) -> float:
        assert self.started_at is not None
        assert self.deadline is not None
        due = self.started_at + share * max(0.0, self.deadline - self.started_at)
        return max(due, self._handing_over_at + HAND_OVER_S) if self.handover.is_set() else due

    def _enter(self, phase: Phase) -> None:
        if phase == "handing_over":
            self._handing_over_at = self._clock()
            self.handover.set()
        self._log.info(f"drain.{phase}", in_flight=self.running)
        self._set(phase)
        self._settle()

    def _set(self, phase: Phase) -> None:
        self.phase = phase
        self._entered(phase)

    def _settle(self) -> None:
        """Refusing with nothing left to do is empty, however much time is left."""
        if self.running == 0 and self.phase in ("refusing", "handing_over"):
            self._stop_timer()
            self._enter("empty")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
