"""Whether a failed attempt is followed by another: pure decisions, and the budget that bounds them.

A request gets `max_attempts` nodes that take it, counted anew at every cut that comes after progress, for a
long stream may outlive several nodes. A node that takes nothing, because it is gone or drains, is not
counted; MAX_TOTAL_ATTEMPTS bounds all that were reached. A node that fell silent counts as long as it is
silent: when it answers again it stood still, which was not the request's doing. Until then a request that
has met too many of them waits, and so hangs no more nodes than it may.
Attempts that answer a sick node's failure are also bounded by a budget, so that a sick fleet is not asked
three times for everything. One that answers the loss of a node is not: it replaces work which that node no
longer does, so it adds no load, and the loss of one node of three cuts a third of all requests at once. The
same holds for what an overloaded node sends away, as long as another node is well.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

WINDOW_S = 10.0
# A request that nodes do not survive must not take the whole fleet with it, token by token.
MAX_TOTAL_ATTEMPTS = 12
_BACKOFF_BASE_S = 0.05
_BACKOFF_CAP_S = 2.0
_SILENCES_AT_ONCE = 2
_CALM_BASE_S = 1.0
_CALM_CAP_S = 8.0


class Failure(StrEnum):
    """What ended an attempt."""

    CONNECT = "connect"
    LOST = "lost"
    CUT = "cut"
    DRAINING = "draining"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    ERROR = "error"
    MALFORMED = "malformed"
    SILENT = "silent"
    ENGINE_SILENT = "engine_silent"


class Action(StrEnum):
    RETRY = "retry"
    RESUME = "resume"
    GIVE_UP = "give_up"


# After these the node does none of the request's work any more; after the first it never did.
TOOK_NOTHING = frozenset({Failure.CONNECT, Failure.DRAINING, Failure.ENGINE_SILENT})
_NODE_GONE = TOOK_NOTHING | {Failure.LOST, Failure.CUT, Failure.SILENT}
# After these it is known when the node may be asked again, so that they cannot come in a storm.
UNREACHED = frozenset({Failure.CONNECT, Failure.ENGINE_SILENT})


@dataclass(frozen=True, slots=True)
class Situation:
    """`attempts` are the nodes that took the request since it began or last progressed; `total` are all
    that were reached. The failed one is included.
    """

    failure: Failure
    attempts: int
    total: int
    max_attempts: int
    max_total: int
    content_sent: bool
    seconds_left: float
    elsewhere: bool = False


def needs_budget(situation: Situation) -> bool:
    if situation.failure is Failure.OVERLOADED:
        return not situation.elsewhere
    return situation.failure not in _NODE_GONE


def decide(situation: Situation, budget_allows: bool) -> Action:
    """`budget_allows` counts only where `needs_budget`."""
    if (
        situation.total >= situation.max_total
        or situation.attempts >= situation.max_attempts
        or situation.seconds_left <= 0
    ):
        return Action.GIVE_UP
    if needs_budget(situation) and not budget_allows:
        return Action.GIVE_UP
    return Action.RESUME if situation.content_sent else Action.RETRY


class Budget:
    """Retries as a share of the requests of the last WINDOW_S seconds, and of those still under way.

    20% and a minimum of 3 are the defaults of Finagle and Envoy. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float], share: float, minimum: int) -> None:
        self._clock = clock
        self._share = share
        self._minimum = minimum
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()
        self._under_way = 0

    def begin(self) -> None:
        """A request arrived."""
        self._forget()
        self._requests.append(self._clock())
        self._under_way += 1

    def end(self) -> None:
        """A request is over, however it went."""
        self._under_way -= 1

    @property
    def remembered(self) -> int:
        """Requests and retries that are held in memory: those of the window."""
        return len(self._requests) + len(self._retries)

    def allows(self) -> bool:
        self._forget()
        base = max(len(self._requests), self._under_way)
        return len(self._retries) < max(self._minimum, int(self._share * base))

    def spend(self) -> None:
        """An attempt that needs the budget is made."""
        self._retries.append(self._clock())

    def _forget(self) -> None:
        horizon = self._clock() - WINDOW_S
        for times in (self._requests, self._retries):
            while times and times[0] <= horizon:
                times.popleft()


def calm_s(silences: int, rng: Random) -> float:
    """How long to leave a fleet alone of which so many nodes have fallen silent under one request since it
    last progressed, in seconds. It may be starved, and each move has it read a prompt again.
    """
    if silences <= _SILENCES_AT_ONCE:
        return 0.0
    return rng.uniform(0.5, 1) * min(_CALM_CAP_S, _CALM_BASE_S * 2.0 ** (silences - _SILENCES_AT_ONCE - 1))


def backoff_s(attempts: int, rng: Random) -> float:
    """Full jitter, in seconds, for when only nodes that were tried already are left."""
    return rng.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**attempts))
