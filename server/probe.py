"""Whether a node that says nothing lives: it is asked on a new connection, and again until it answers."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from random import Random

from server.drain import EventLog
from server.errors import SILENT, STATE_HEADER
from server.http.client import UpstreamPool
from server.http.errors import ConnectFailed, UpstreamError
from server.upstreams import Node, NodeSet
from server.watch import LATE_S, spoken_at

# Every engine and our own node answer here; whatever they say, they live.
_TARGET = "/health"
# A node that lives and gives no token is asked again no sooner than this.
REPROBE_S = 1.0
# A silent node is asked again after so long, and longer each time.
_PAUSE_S = 0.25
_PAUSE_CAP_S = 2.0


class Sign(Enum):
    """What came of asking a node."""

    LIFE = "life"
    REFUSED = "refused"
    SILENCE = "silence"


class Prober:
    """Keeps silent nodes out of the set until they answer.

    A refused connection is no silence: the system answered, and would have reset what was open to a process
    that is gone. A node of ours answers for its engine, and says whether that is silent. `clock` is the
    loop's.
    """

    def __init__(
        self,
        nodes: NodeSet,
        *,
        probe_s: float,
        log: EventLog,
        rng: Random,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._nodes = nodes
        self._pool = UpstreamPool(connect_timeout_s=probe_s, max_idle_per_host=0)
        self._probe_s = probe_s
        self._log = log
        self._rng = rng
        self._clock = clock
        self._sleep = sleep
        self._probes: dict[Node, asyncio.Task[None]] = {}

    def doubt(self, node: Node) -> None:
        """Ask it, unless it is being asked or has just answered."""
        if self._clock() - node.lived_at >= REPROBE_S:
            self._start(node, self._find_out)

    def told(self, node: Node) -> None:
        """It says that its engine is silent."""
        self._nodes.silenced(node)
        self._start(node, self._keep_out)

    def _start(self, node: Node, look: Callable[[Node], Coroutine[None, None, None]]) -> None:
        if node not in self._probes:
            task = asyncio.get_running_loop().create_task(look(node))
            self._probes[node] = task
            task.add_done_callback(lambda _: self._probes.pop(node, None))

    async def aclose(self) -> None:
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        await self._pool.aclose()

    async def ask(self, node: Node) -> Sign:
        """One probe, answered or not within `probe_s`."""
        headers = [(b"accept", b"*/*")]
        try:
            async with (
                asyncio.timeout(self._probe_s),
                self._pool.request(node.address, "GET", _TARGET, headers) as response,
            ):
                return Sign.SILENCE if response.headers.get(STATE_HEADER) == SILENT else Sign.LIFE
        except ConnectFailed as exc:
            return Sign.REFUSED if isinstance(exc.__cause__, ConnectionRefusedError) else Sign.SILENCE
        except (UpstreamError, TimeoutError):
            return Sign.SILENCE

    async def _find_out(self, node: Node) -> None:
        began = self._clock()
        sign = await self.ask(node)
        if sign is Sign.SILENCE and self._clock() - began > self._probe_s + LATE_S:
            # We did not run ourselves: an answer may lie unread. Whoever still waits will doubt again.
            return
        if sign is Sign.REFUSED:
            self._nodes.refused_connection(node)
        if sign is not Sign.SILENCE or spoken_at(node) > began:
            node.lived_at = self._clock()
            self._nodes.lives(node)
            return
        await self._keep_out(node, began)

    async def _keep_out(self, node: Node, began: float | None = None) -> None:
        """Nobody is sent there until it answers."""
        self._nodes.silenced(node)
        self._log.info("node.silent", node=node.id, in_flight=node.in_flight)
        await self._until_it_answers(node, self._clock() if began is None else began)

    async def _until_it_answers(self, node: Node, began: float) -> None:
        pause_s = _PAUSE_S
        # One that discovery has taken out may still hold work that can be moved once there is a place.
        while node in self._nodes or node.watches:
            self._move_work(node, began)
            await self._sleep(pause_s * self._rng.uniform(0.8, 1.2))
            pause_s = min(_PAUSE_CAP_S, pause_s * 1.5)
            if await self.ask(node) is Sign.LIFE or spoken_at(node) > began:
                node.lived_at = self._clock()
                self._nodes.lives(node)
                self._log.info("node.answers", node=node.id, silent_s=round(self._clock() - began, 3))
                return

    def _move_work(self, node: Node, began: float) -> None:
        """What it was doing is done elsewhere. Where there is no other place it may as well wait here."""
        if self._nodes.can_replace(node):
            for watch in list(node.watches):
                if watch.spoken_at() <= began:
                    watch.cut_for_silence()
