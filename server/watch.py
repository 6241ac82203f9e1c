"""Who watches over attempts that wait for their node, so that silence ends them and a slow node does not."""

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from server.http.client import RequestContext
from server.http.errors import UpstreamError, UpstreamSilent, UpstreamTimeout
from server.pace import Bounds, Wait
from server.upstreams import Node, NodeSet

Item = TypeVar("Item")

# How late a look may be. One timer serves all attempts: an attempt costs two list operations, not a timer.
TICK_S = 0.05
# An attempt that is under suspicion is looked at this often.
RELOOK_S = 0.25
# A tick that is so late means that we did not run: what came in the meantime is still to be read.
LATE_S = 0.5
_NEVER = -math.inf


class Wheel(Generic[Item]):
    """Things that are due at times, by ticks."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Item]] = {}
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self._slots)

    def put(self, item: Item, at: float) -> None:
        slot = int(at / TICK_S) + 1
        if not self._slots or slot < self._next:
            self._next = slot
        self._slots.setdefault(slot, []).append(item)

    def due(self, now: float) -> Iterator[Item]:
        """Takes out what is due."""
        last = int(now / TICK_S)
        while self._slots and self._next <= last:
            yield from self._slots.pop(self._next, ())
            self._next += 1


class Watch:
    """One attempt. It waits for its first token or its whole answer, and after `progressed` for the next.

    `book_move` says whether the work goes elsewhere although the node lives, and then counts on it.
    """

    __slots__ = ("_book_move", "_escalations", "_next", "_wait", "began", "node", "over", "request")

    def __init__(
        self,
        node: Node,
        request: RequestContext,
        wait: Wait,
        following: Wait,
        escalations: int,
        book_move: Callable[[], bool],
        now: float,
    ) -> None:
        """`following` is the wait after the first token; bounds are doubled `escalations` times."""
        self.node = node
        self.request = request
        self.began = now
        self.over = False
        self._wait = wait
        self._next: Wait | None = following
        self._escalations = escalations
        self._book_move = book_move

    def end(self) -> None:
        """It lets go of its request: it may lie on the wheel for seconds, with thousands of others."""
        self.over = True
        del self.request, self._book_move

    @property
    def bounds(self) -> Bounds:
        bounds = self._wait.bounds
        return bounds.doubled(self._escalations) if self._escalations else bounds

    def heard_at(self, now: float) -> float:
        """When the wait began, which is now as long as we do not read."""
        connection = self.request.connection
        if connection is None:
            return self.began
        return now if connection.held_back else connection.heard_at

    def spoken_at(self) -> float:
        """When the node last said something to this attempt."""
        connection = self.request.connection
        return connection.heard_at if connection is not None and connection.heard else _NEVER

    def due(self, waited_s: float) -> bool:
        """Whether to cut it, though the node may live."""
        bounds = self.bounds
        return waited_s >= bounds.most_s or (waited_s >= bounds.cut_s and self._book_move())

    def progressed(self, now: float) -> None:
        """The first token has come."""
        if self._next is not None:
            self._wait.observe(now - self.began)
            self._wait, self._next = self._next, None
            self._escalations = 0
            connection = self.request.connection
            if connection is not None:
                connection.longest_gap = 0.0

    def succeeded(self, now: float) -> None:
        """The answer is whole."""
        connection = self.request.connection
        if self._next is not None:
            self._wait.observe(now - self.began)
        elif connection is not None:
            self._wait.observe(connection.longest_gap)

    def cut_for_being_slow(self, waited_s: float) -> None:
        self._wait.observe(waited_s)
        self._give_up(UpstreamTimeout(f"the upstream lives, and gave nothing for {waited_s:.1f} s"))

    def cut_for_silence(self) -> None:
        self._give_up(UpstreamSilent("the upstream fell silent: it does not answer its health check either"))

    def _give_up(self, error: UpstreamError) -> None:
        connection = self.request.connection
        if connection is not None:
            connection.give_up(error)


class Doubts(Protocol):
    """Finds out whether a node lives."""

    def doubt(self, node: Node) -> None: ...


class Watchman:
    """Looks at each attempt when it may have waited too long. `clock` is the loop's."""

    def __init__(self, nodes: NodeSet, doubts: Doubts, clock: Callable[[], float]) -> None:
        self._nodes = nodes
        self._doubts = doubts
        self._clock = clock
        self._wheel: Wheel[Watch] = Wheel()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        self._awake_since = _NEVER

    def begin(self, watch: Watch) -> None:
        watch.node.watches.add(watch)
        self._wheel.put(watch, watch.began + watch.bounds.suspect_s)
        if self._timer is None:
            self._ticked_at = watch.began
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def end(self, watch: Watch) -> None:
        watch.end()
        watch.node.watches.discard(watch)

    def progressed(self, watch: Watch) -> None:
        """The first token has come: from here on tokens are due, sooner than the first was."""
        if watch.over:
            return
        now = self._clock()
        before = watch.bounds.suspect_s
        watch.progressed(now)
        after = watch.bounds.suspect_s
        if now + after + TICK_S < watch.began + before:
            self._wheel.put(watch, now + after)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """At all attempts that are due."""
        now = self._clock()
        if now - self._ticked_at > LATE_S:
            self._awake_since = now
        self._ticked_at = now
        doubted: set[Node] = set()
        again = [(watch, at) for watch in self._wheel.due(now) if (at := self._look_at(watch, now, doubted))]
        for node in doubted:
            self._doubt(node, now)
        for watch, at in again:
            self._wheel.put(watch, at)

    def _tick(self) -> None:
        self.look()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick) if self._wheel else None

    def _look_at(self, watch: Watch, now: float, doubted: set[Node]) -> float | None:
        """When to look again."""
        if watch.over:
            return None
        heard_at = max(watch.heard_at(now), self._awake_since)
        waited_s, suspect_s = now - heard_at, watch.bounds.suspect_s
        if waited_s < suspect_s:
            return heard_at + suspect_s
        if watch.due(waited_s):
            watch.cut_for_being_slow(waited_s)
            return None
        doubted.add(watch.node)
        return now + RELOOK_S

    def _doubt(self, node: Node, now: float) -> None:
        """A node that speaks to others lives. One that speaks to nobody is asked, and spared new work."""
        if now - spoken_at(node) < RELOOK_S:
            return
        self._nodes.quiet(node)
        self._doubts.doubt(node)


def spoken_at(node: Node) -> float:
    """When the node last said something to anybody."""
    return max(node.heard_at, *(watch.spoken_at() for watch in node.watches), _NEVER)
