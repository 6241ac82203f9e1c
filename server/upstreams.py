"""The nodes that a gateway may send to, and which of them is next."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from server.errors import NoNodeReady

Address = tuple[str, int]

# Envoy's outlier detection: so many failures in a row, ejected for so long, at most half of the hosts.
EJECT_AFTER = 5
EJECT_S = 30.0
# A cut says that the node may be gone; discovery takes seconds to find out.
SUSPECT_S = 1.0
# A node that refuses connections is left alone this long, twice as long each time.
DOWN_S = 0.5
DOWN_CAP_S = 8.0
# A node that said it drains is left alone this long, unless discovery takes it out first.
LEAVING_S = 30.0

NodeState = Literal["ready", "suspect", "down", "ejected", "leaving", "refusing"]
_STATES: tuple[NodeState, ...] = get_args(NodeState)


@dataclass(eq=False, slots=True)
class Node:
    """One node as this gateway sees it. Times are those of the set's clock, in seconds.

    After a loss a node is unproven until it answers again: until then it gets one request at a time.
    """

    id: str
    address: Address
    in_flight: int = 0
    failures: int = 0
    ejections: int = 0
    refusals: int = 0
    unproven: bool = False
    down_until: float = 0.0
    suspect_until: float = 0.0
    ejected_until: float = 0.0
    leaving_until: float = 0.0
    refuses: bool = False

    def state(self, now: float) -> NodeState:
        if now < self.leaving_until:
            return "refusing" if self.refuses else "leaving"
        if now < self.ejected_until:
            return "ejected"
        if now < self.down_until:
            return "down"
        suspect = now < self.suspect_until or (self.unproven and self.in_flight > 0)
        return "suspect" if suspect else "ready"

    def next_change(self, now: float) -> float | None:
        """When its state changes by time alone."""
        times = (self.down_until, self.suspect_until, self.ejected_until, self.leaving_until)
        return min((at for at in times if at > now), default=None)


class NodeSet:
    """Least in flight of two random nodes, never one that the request has tried already.

    `rng` and `clock` (monotonic seconds) are passed in.
    """

    def __init__(self, rng: Random, clock: Callable[[], float]) -> None:
        self._rng = rng
        self._clock = clock
        self._nodes: dict[tuple[str, Address], Node] = {}
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def counts(self) -> dict[NodeState, int]:
        now = self._clock()
        counts = dict.fromkeys(_STATES, 0)
        for node in self._nodes.values():
            counts[node.state(now)] += 1
        return counts

    def replace(self, found: Mapping[str, Address]) -> None:
        """What discovery found, by id. Nodes that stay keep what is known of them."""
        keys = set(found.items())
        self._nodes = {key: self._nodes.get(key) or Node(id=key[0], address=key[1]) for key in sorted(keys)}
        self._wake()

    def pick(self, tried: Set[Node]) -> Node | None:
        """The next node for a request, or None. Nodes that are leaving but still accept come last."""
        now = self._clock()
        for state in ("ready", "suspect", "leaving"):
            candidates = [
                node for node in self._nodes.values() if node.state(now) == state and node not in tried
            ]
            if candidates:
                return self._less_busy(candidates)
        return None

    async def wait_for_node(self, tried: Set[Node], wait_s: float) -> Node:
        """Hold a request until a node can take it. Raises NoNodeReady after `wait_s` seconds."""
        deadline = self._clock() + wait_s
        while (node := self.pick(tried)) is None:
            left = deadline - self._clock()
            if left <= 0:
                raise NoNodeReady(
                    "No model node is ready; try again later.", retry_after_ms=5000, should_retry=True
                )
            await self._changed(left)
        return node

    @contextmanager
    def sending(self, node: Node) -> Iterator[None]:
        """Counts one request on `node`."""
        node.in_flight += 1
        try:
            yield
        finally:
            node.in_flight -= 1
            if node.in_flight == 0:
                self._wake()

    def answered(self, node: Node) -> None:
        """Something came from the node: it lives."""
        node.unproven = False
        node.refusals = 0

    def succeeded(self, node: Node) -> None:
        """The node answered a request to its end."""
        node.failures = node.ejections = 0
        node.suspect_until = 0.0

    def failed(self, node: Node) -> None:
        """An attempt failed by the node's fault."""
        node.failures += 1
        if node.failures >= EJECT_AFTER and self._may_eject(node):
            node.failures = 0
            node.ejections += 1
            node.ejected_until = self._clock() + EJECT_S * node.ejections

    def suspected(self, node: Node) -> None:
        """The node may be gone: others first, for a moment."""
        node.suspect_until = self._clock() + SUSPECT_S
        node.unproven = True

    def refused_connection(self, node: Node) -> None:
        """Nothing listens there now: nobody is sent there for a while."""
        node.down_until = self._clock() + min(DOWN_CAP_S, DOWN_S * 2**node.refusals)
        node.refusals += 1
        node.unproven = True

    def drains(self, node: Node, *, refuses: bool) -> None:
        """The node said that it drains."""
        node.leaving_until = self._clock() + LEAVING_S
        node.refuses = refuses

    def _less_busy(self, candidates: list[Node]) -> Node:
        if len(candidates) == 1:
            return candidates[0]
        first, second = self._rng.sample(candidates, 2)
        return second if second.in_flight < first.in_flight else first

    def _may_eject(self, node: Node) -> bool:
        now = self._clock()
        ejected = sum(1 for other in self._nodes.values() if other.state(now) == "ejected")
        usable = [
            other
            for other in self._nodes.values()
            if other is not node and other.state(now) in ("ready", "suspect")
        ]
        return bool(usable) and (ejected + 1) * 2 <= len(self._nodes)

    async def _changed(self, wait_s: float) -> None:
        """Until the set changes, a node's time is up, or `wait_s` seconds have passed."""
        now = self._clock()
        changes = (node.next_change(now) for node in self._nodes.values())
        soonest = min((at - now for at in changes if at is not None), default=wait_s)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(min(wait_s, soonest)):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
