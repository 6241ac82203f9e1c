"""The nodes that a gateway may send to, and which of them is next."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from server.affinity import Ring, load_limit
from server.errors import NoNodeReady

if TYPE_CHECKING:
    from server.watch import Watch

Address = tuple[str, int]

# Envoy's outlier detection: so many failures in a row, ejected for so long, at most half of the hosts.
EJECT_AFTER = 5
EJECT_S = 30.0
# As long as a node says nothing to anybody, others are asked first; looked at more often than this.
QUIET_S = 1.0
# A cut says that the node may be gone; discovery takes seconds to find out.
SUSPECT_S = 1.0
# A node that refuses connections is left alone this long, twice as long each time.
DOWN_S = 0.5
DOWN_CAP_S = 8.0
# A node that said it drains is left alone this long, unless discovery takes it out first.
LEAVING_S = 30.0

NodeState = Literal["ready", "suspect", "down", "ejected", "silent", "leaving", "refusing"]
_STATES: tuple[NodeState, ...] = get_args(NodeState)
# Those that a request may be sent to, best first.
_USABLE: tuple[NodeState, ...] = ("ready", "suspect", "leaving")
_NEVER = -math.inf


@dataclass(eq=False, slots=True)
class Node:
    """One node as this gateway sees it. Times are those of the set's clock, in seconds.

    After a loss a node is unproven until it answers again: until then it gets one request at a time. A node
    that accepts and does not answer is silent until a probe has its answer: until then it gets none.
    `heard_at` is when it last answered a request, `lived_at` a probe; `watches` are over what it does now.
    `models` are what it can be asked for; None is whatever anybody asks for.
    """

    id: str
    address: Address
    models: frozenset[str] | None = None
    in_flight: int = 0
    failures: int = 0
    ejections: int = 0
    refusals: int = 0
    unproven: bool = False
    silent: bool = False
    heard_at: float = _NEVER
    lived_at: float = _NEVER
    watches: set["Watch"] = field(default_factory=set)
    down_until: float = 0.0
    suspect_until: float = 0.0
    ejected_until: float = 0.0
    leaving_until: float = 0.0
    refuses: bool = False

    def state(self, now: float) -> NodeState:
        if now < self.leaving_until:
            return "refusing" if self.refuses else "leaving"
        if self.silent:
            return "silent"
        if now < self.ejected_until:
            return "ejected"
        if now < self.down_until:
            return "down"
        suspect = now < self.suspect_until or (self.unproven and self.in_flight > 0)
        return "suspect" if suspect else "ready"

    def shares_work_with(self, other: "Node") -> bool:
        """Whether there can be a request that both can take."""
        return self.models is None or other.models is None or not self.models.isdisjoint(other.models)

    def next_change(self, now: float) -> float:
        """When its state changes by time alone; infinity if never."""
        times = (self.down_until, self.suspect_until, self.ejected_until, self.leaving_until)
        return min((at for at in times if at > now), default=math.inf)


class Usable(NamedTuple):
    """Nodes that a request may be sent to: by state, best first, and the ready ones once more."""

    groups: tuple[list[Node], ...]
    ready: Set[Node]


_NONE_USABLE = Usable((), frozenset())


class NodeSet:
    """Least in flight of two random nodes, never one that the request has tried already. With `affinity`, a
    request with a key goes to its node on a ring as long as that is ready and has no more than its share.
    With `by_model` a node gets nothing before `serves` has told what it can be asked for.

    `rng` and `clock` (monotonic seconds) are passed in. Nodes are grouped by state whenever one changes, not
    for each request.
    """

    def __init__(
        self,
        rng: Random,
        clock: Callable[[], float],
        *,
        affinity: bool = False,
        by_model: bool = False,
    ) -> None:
        self._rng = rng
        self._clock = clock
        self.ejected = 0
        self._nodes: dict[tuple[str, Address], Node] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._usable = _NONE_USABLE
        self._usable_for: dict[str, Usable] = {}
        self._unknown: frozenset[str] | None = frozenset() if by_model else None
        self._regroup_at = _NEVER
        self._in_flight = 0
        self._affinity = affinity
        self._ring: Ring[Node] = Ring({})

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def __contains__(self, node: Node) -> bool:
        return self._nodes.get((node.id, node.address)) is node

    def snapshot(self) -> list[dict[str, object]]:
        """What each node is and does, for people."""
        now = self._clock()
        return [
            {
                "id": node.id,
                "address": f"{node.address[0]}:{node.address[1]}",
                "state": node.state(now),
                "in_flight": node.in_flight,
                "failures": node.failures,
                "ejections": node.ejections,
                **({} if node.models is None else {"models": sorted(node.models)}),
            }
            for node in self._nodes.values()
        ]

    def counts(self) -> dict[NodeState, int]:
        now = self._clock()
        counts = dict.fromkeys(_STATES, 0)
        for node in self._nodes.values():
            counts[node.state(now)] += 1
        return counts

    def replace(self, found: Mapping[str, Address]) -> None:
        """What discovery found, by id. Nodes that stay keep what is known of them."""
        keys = set(found.items())
        if keys == self._nodes.keys():
            return
        self._nodes = {
            key: self._nodes.get(key) or Node(id=key[0], address=key[1], models=self._unknown)
            for key in sorted(keys)
        }
        if self._affinity:
            # By address: gateways may know a node by other ids.
            self._ring = Ring({f"{host}:{port}": node for (_, (host, port)), node in self._nodes.items()})
        self._changed()

    def serves(self, node: Node, models: frozenset[str]) -> None:
        """What the node can be asked for."""
        node.models = models
        self._changed()

    def pick(self, tried: Set[Node], key: int | None = None, model: str | None = None) -> Node | None:
        """The next node for a request, or None. Nodes that are leaving but still accept come last."""
        usable = self._find(model)
        if key is not None and self._affinity and (node := self._at_home(usable, tried, key)) is not None:
            return node
        for group in usable.groups:
            node = self._less_busy(group, tried)
            if node is not None:
                return node
        return None

    def has_ready(self, tried: Set[Node], model: str | None = None) -> bool:
        """Whether a node is ready that is not among `tried`."""
        return any(node not in tried for node in self._find(model).ready)

    def can_replace(self, node: Node) -> bool:
        """Whether there is another node for what this one does."""
        groups = self._find(None).groups
        return any(other is not node and other.shares_work_with(node) for group in groups for other in group)

    async def wait_for_node(self, tried: Set[Node], wait_s: float, model: str | None = None) -> Node:
        """Hold a request until a node can take it. Raises NoNodeReady after `wait_s` seconds."""
        await self.wait_until(lambda: self.pick(tried, model=model) is not None, wait_s)
        node = self.pick(tried, model=model)
        assert node is not None
        return node

    async def wait_until(self, holds: Callable[[], bool], wait_s: float) -> None:
        """Until something holds that changes with the nodes. Raises NoNodeReady after `wait_s` seconds."""
        deadline = self._clock() + wait_s
        while not holds():
            left = deadline - self._clock()
            if left <= 0:
                raise NoNodeReady(
                    "No model node is ready; try again later.", retry_after_ms=5000, should_retry=True
                )
            await self._change(left)

    @contextmanager
    def sending(self, node: Node) -> Iterator[None]:
        """Counts one request on `node`."""
        self.begin(node)
        try:
            yield
        finally:
            self.end(node)

    def begin(self, node: Node) -> None:
        """A request is sent to the node."""
        node.in_flight += 1
        self._in_flight += 1
        if node.unproven:
            self._regroup_at = _NEVER

    def end(self, node: Node) -> None:
        """A request that was sent to the node is over."""
        node.in_flight -= 1
        self._in_flight -= 1
        if node.in_flight == 0 and (node.unproven or self._waiters):
            self._changed()

    def heard(self, node: Node) -> None:
        """The node said something, whatever it was: it is not silent."""
        node.heard_at = self._clock()

    def answered(self, node: Node) -> None:
        """The node serves."""
        node.heard_at = self._clock()
        if node.unproven or node.refusals:
            node.unproven = False
            node.refusals = 0
            self._changed()

    def succeeded(self, node: Node) -> None:
        """The node answered a request to its end."""
        node.failures = node.ejections = 0
        if node.suspect_until:
            node.suspect_until = 0.0
            self._changed()

    def failed(self, node: Node) -> None:
        """An attempt failed by the node's fault."""
        node.failures += 1
        if node.failures >= EJECT_AFTER and self._may_eject(node):
            node.failures = 0
            node.ejections += 1
            self.ejected += 1
            node.ejected_until = self._clock() + EJECT_S * node.ejections
            self._regroup_at = _NEVER

    def suspected(self, node: Node) -> None:
        """The node may be gone or sick: others first, for a moment, and then one request to try it."""
        node.suspect_until = self._clock() + SUSPECT_S
        node.unproven = True
        self._regroup_at = _NEVER

    def quiet(self, node: Node) -> None:
        """The node says nothing to anybody: others first, for a moment."""
        node.suspect_until = max(node.suspect_until, self._clock() + QUIET_S)
        self._regroup_at = _NEVER

    def silenced(self, node: Node) -> None:
        """The node accepts and does not answer: nobody is sent there before it does."""
        node.silent = node.unproven = True
        self._regroup_at = _NEVER

    def lives(self, node: Node) -> None:
        """A silent node has answered a probe."""
        node.silent = False
        self._changed()

    def refused_connection(self, node: Node) -> None:
        """Nothing listens there now: nobody is sent there for a while."""
        node.down_until = self._clock() + min(DOWN_CAP_S, DOWN_S * 2**node.refusals)
        node.refusals += 1
        node.unproven = True
        self._regroup_at = _NEVER

    def drains(self, node: Node, *, refuses: bool) -> None:
        """The node said that it drains."""
        node.leaving_until = self._clock() + LEAVING_S
        node.refuses = refuses
        self._regroup_at = _NEVER

    def _regroup(self) -> None:
        now = self._clock()
        states = {node: node.state(now) for node in self._nodes.values()}
        groups = tuple([node for node in states if states[node] == usable] for usable in _USABLE)
        self._usable = Usable(groups, frozenset(groups[0]))
        self._usable_for.clear()
        self._regroup_at = min((node.next_change(now) for node in states), default=math.inf)

    def _find(self, model: str | None) -> Usable:
        if self._clock() >= self._regroup_at:
            self._regroup()
        return self._usable if model is None else self._usable_for.get(model) or self._find_for(model)

    def _find_for(self, model: str) -> Usable:
        groups = tuple(
            [node for node in group if node.models is None or model in node.models]
            for group in self._usable.groups
        )
        found = Usable(groups, frozenset(groups[0]))
        # Clients choose what they ask for: only what there is may take up memory.
        if any(groups):
            self._usable_for[model] = found
        return found

    def _at_home(self, usable: Usable, tried: Set[Node], key: int) -> Node | None:
        ready = usable.ready
        in_flight = self._in_flight if usable is self._usable else sum(node.in_flight for node in ready)
        limit = load_limit(in_flight, len(ready))
        for node in self._ring.walk(key) if ready else ():
            if node in ready and node.in_flight < limit and node not in tried:
                return node
        return None

    def _less_busy(self, group: list[Node], tried: Set[Node]) -> Node | None:
        if tried:
            group = [node for node in group if node not in tried]
        count = len(group)
        if count < 2:
            return group[0] if group else None
        at = int(self._rng.random() * count)
        other = int(self._rng.random() * (count - 1))
        first, second = group[at], group[other + (other >= at)]
        return second if second.in_flight < first.in_flight else first

    def _may_eject(self, node: Node) -> bool:
        now = self._clock()
        peers = [other for other in self._nodes.values() if other.shares_work_with(node)]
        ejected = sum(1 for other in peers if other.state(now) == "ejected")
        usable = any(other is not node and other.state(now) in ("ready", "suspect") for other in peers)
        return usable and (ejected + 1) * 2 <= len(peers)

    async def _change(self, wait_s: float) -> None:
        """Until the set changes, a node's time is up, or `wait_s` seconds have passed."""
        now = self._clock()
        soonest = min((node.next_change(now) for node in self._nodes.values()), default=math.inf) - now
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(min(wait_s, soonest)):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)

    def _changed(self) -> None:
        """A node may have become usable: group anew, and wake who waits for one."""
        self._regroup_at = _NEVER
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
