"""Which models the nodes of a gateway serve, where its tiers serve different ones: each node says it itself.

A node is asked when it is new, and from time to time after that. A request then costs a look into a table.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

from server.drain import EventLog
from server.errors import ModelNotFound, NoNodeReady
from server.http.client import UpstreamPool
from server.http.errors import BodyTooLarge, UpstreamError
from server.upstreams import Address, Node, NodeSet
from server.wire.jsonbody import Json
from server.wire.openai import SERVED_MODEL_ALIASES

UNNAMED = ""
"""The model of requests that name none, as TGI's do: whatever the first tier serves."""

# Adapters may be loaded into an engine and out of it while it runs.
RELEARN_S = 60.0
_ASK_S = 5.0
_MAX_LISTING_BYTES = 1024 * 1024

Listing = dict[str, Json]


class Unreadable(Exception):
    """A node did not say which models it serves."""


class Ask(Protocol):
    """Gives the models that a node serves, by id. Raises Unreadable."""

    def __call__(self, node: Node) -> Awaitable[Listing]: ...


class ListingReader:
    """Asks nodes over HTTP. `read` is what turns an engine's listing into OpenAI's, where it is another."""

    def __init__(self, pool: UpstreamPool, read: Callable[[Json], Json] | None) -> None:
        self._pool = pool
        self._read = read

    async def __call__(self, node: Node) -> Listing:
        try:
            async with (
                asyncio.timeout(_ASK_S),
                self._pool.request(
                    node.address, "GET", "/v1/models", [(b"accept", b"application/json")]
                ) as response,
            ):
                body = await response.read(_MAX_LISTING_BYTES)
        except (UpstreamError, BodyTooLarge, TimeoutError) as exc:
            raise Unreadable(f"it does not answer: {type(exc).__name__}") from exc
        if response.status != 200:
            raise Unreadable(f"it answers {response.status}")
        return read_listing(body, self._read)


def read_listing(body: bytes, read: Callable[[Json], Json] | None) -> Listing:
    """Raises Unreadable."""
    try:
        listing = json.loads(body)
        data = (read(listing) if read else listing)["data"]
        return {item["id"]: item for item in data if isinstance(item["id"], str) and item["id"]}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as exc:
        raise Unreadable("its answer is no list of models") from exc


class Catalogue:
    """One for all sources of nodes, each of which is a tier. `ready` is called when one has said its models.

    A model stays known while its tier has no node: requests for it wait, as they do for a fleet of one tier.
    As long as a tier has never said what it serves, a model that nobody knows may be its own.
    """

    def __init__(
        self,
        nodes: NodeSet,
        sources: int,
        ask: Ask,
        *,
        ready: Callable[[], object],
        log: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self._nodes = nodes
        self._ask = ask
        self._ready = ready
        self._log = log
        self._clock = clock
        self._found: list[Mapping[str, Address]] = [{} for _ in range(sources)]
        self._of_source: list[Listing] = [{} for _ in range(sources)]
        self._of_node: dict[Node, Listing] = {}
        self._asked_at: dict[Node, float] = {}
        self._asking: dict[Node, asyncio.Task[None]] = {}
        self._known: Listing = {}

    def found(self, source: int, found: Mapping[str, Address]) -> None:
        """What discovery found in one source. New nodes are asked."""
        self._found[source] = found
        self._nodes.replace({id_: at for each in reversed(self._found) for id_, at in each.items()})
        self._of_node = {node: listing for node, listing in self._of_node.items() if node in self._nodes}
        self._asked_at = {node: at for node, at in self._asked_at.items() if node in self._nodes}
        self._sort()
        for node in self._nodes.nodes:
            if self._is_due(node):
                task = asyncio.get_running_loop().create_task(self._learn(node))
                self._asking[node] = task
                task.add_done_callback(partial(self._asked, node))

    def model_of(self, asked: object) -> str:
        """The model by which nodes are picked for a request that asked for `asked`. Raises ModelNotFound."""
        if not isinstance(asked, str) or asked in SERVED_MODEL_ALIASES:
            return UNNAMED
        if asked not in self._known and all(self._of_source):
            raise ModelNotFound
        return asked

    def listing(self) -> Json:
        """OpenAI's list of all models. Raises NoNodeReady."""
        if not self._known:
            raise NoNodeReady(
                "No model node is ready; try again later.", retry_after_ms=5000, should_retry=True
            )
        return {"object": "list", "data": list(self._known.values())}

    async def aclose(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _is_due(self, node: Node) -> bool:
        at = self._asked_at.get(node)
        return node not in self._asking and (at is None or self._clock() - at >= RELEARN_S)

    def _asked(self, node: Node, _: asyncio.Task[None]) -> None:
        self._asking.pop(node, None)

    async def _learn(self, node: Node) -> None:
        try:
            listing = await self._ask(node)
        except Unreadable as exc:
            self._log.info("models.unreadable", node=node.id, problem=str(exc))
            return
        if node not in self._nodes:
            return
        self._asked_at[node] = self._clock()
        if self._of_node.get(node) == listing:
            return
        self._of_node[node] = listing
        self._log.info("models.learned", node=node.id, models=list(listing))
        first = self._found[0].get(node.id) == node.address
        self._nodes.serves(node, frozenset({*listing, *([UNNAMED] if first else [])}))
        self._sort()
        self._ready()

    def _sort(self) -> None:
        """What each source serves: what its nodes say, and what they said last while it has none."""
        for source, found in enumerate(self._found):
            now = {
                id_: item
                for node, listing in self._of_node.items()
                if found.get(node.id) == node.address
                for id_, item in listing.items()
            }
            self._of_source[source] = now or self._of_source[source]
        # In the tiers' order; where two serve one model, the first one's word on it.
        in_order = [item for listing in self._of_source for item in listing.items()]
        self._known = dict(in_order) | dict(reversed(in_order))
