"""One attempt: a node is asked, and what its answer, or its want, says of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from types import TracebackType

from server.catalogue import Catalogue
from server.engines import Adapter
from server.errors import SILENT, STATE_HEADER, AttemptFailed, EngineRefused, WireError
from server.http.client import RequestContext, UpstreamPool, UpstreamResponse
from server.http.errors import (
    BodyCut,
    BodyTooLarge,
    ConnectFailed,
    ResponseLost,
    UpstreamError,
    UpstreamSilent,
    UpstreamTimeout,
)
from server.http.headers import Headers
from server.pace import Paces
from server.probe import Prober
from server.retry import Budget, Failure
from server.upstreams import Node, NodeSet
from server.watch import Watch, Watchman
from server.wire.openai import read_refusal

_MAX_REFUSAL_BYTES = 64 * 1024
_FAILURES: dict[type[UpstreamError], Failure] = {
    ConnectFailed: Failure.CONNECT,
    ResponseLost: Failure.LOST,
    BodyCut: Failure.CUT,
    UpstreamTimeout: Failure.TIMEOUT,
    UpstreamSilent: Failure.SILENT,
}
# After these the node is asked last for a moment: it may be gone, or has too much to do.
_DOUBTFUL = frozenset({Failure.LOST, Failure.CUT, Failure.TIMEOUT, Failure.SILENT, Failure.OVERLOADED})


@dataclass(frozen=True)
class Limits:
    """Bounds of one request. `holds`: as long as no node can take it, it waits for one. `affinity_characters`
    is the length of the beginning that places a request, None to place it by load alone.
    """

    holds: bool
    max_attempts: int
    max_total_attempts: int
    max_response_bytes: int
    affinity_characters: int | None = None


@dataclass(frozen=True)
class Fleet:
    """What all requests share. `clock` is monotonic seconds."""

    nodes: NodeSet
    pool: UpstreamPool
    budget: Budget
    limits: Limits
    paces: Paces
    watchman: Watchman
    prober: Prober
    rng: Random
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    dialect: Adapter | None = None
    """Of the engine behind the nodes, where no node of ours stands between."""
    catalogue: Catalogue | None = None
    """Where nodes differ in the models that they serve."""

    def model_of(self, asked: object) -> str | None:
        """The model by which nodes are picked; None where any will do. Raises ModelNotFound."""
        return None if self.catalogue is None else self.catalogue.model_of(asked)

    async def aclose(self) -> None:
        """End probes and close connections."""
        self.watchman.close()
        if self.catalogue is not None:
            await self.catalogue.aclose()
        await self.prober.aclose()
        await self.pool.aclose()

    def failed(self, node: Node, failed: AttemptFailed) -> None:
        """What a failed attempt says of its node."""
        failure = failed.failure
        if failure is Failure.DRAINING:
            self.nodes.drains(node, refuses=True)
            return
        if failure is Failure.ENGINE_SILENT:
            self.prober.told(node)
            return
        if failure is not Failure.SILENT:
            # All that a node does is cut at once when it stands still: that is not so many failures in a row.
            self.nodes.failed(node)
        if failure is Failure.CONNECT:
            self.nodes.refused_connection(node)
        elif failure in _DOUBTFUL:
            self.nodes.suspected(node)


class Ask:
    """One attempt, as a context that gives the response. Raises AttemptFailed for what the node did,
    EngineRefused for the request's fault. Errors of reading the response inside the context are translated
    too.
    """

    __slots__ = ("_fleet", "_node", "_request", "watch")

    def __init__(self, fleet: Fleet, node: Node, request: RequestContext, watch: Watch) -> None:
        self._fleet = fleet
        self._node = node
        self._request = request
        self.watch = watch

    async def __aenter__(self) -> UpstreamResponse:
        self._fleet.nodes.begin(self._node)
        self._fleet.watchman.begin(self.watch)
        try:
            response = await self._request.__aenter__()
        except BaseException as exc:
            self._end()
            self._translate(exc)
            raise
        try:
            await self._check(response)
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.watch.succeeded(self._fleet.clock())
        self._end()
        await self._request.__aexit__(kind, error, trace)
        if error is not None:
            self._translate(error)

    async def _check(self, response: UpstreamResponse) -> None:
        nodes, state = self._fleet.nodes, response.headers.get(STATE_HEADER)
        if state == SILENT:
            raise AttemptFailed(Failure.ENGINE_SILENT, "the node's engine does not answer")
        if state == "draining":
            nodes.drains(self._node, refuses=response.status == 503)
        if response.status == 200:
            nodes.answered(self._node)
            return
        nodes.heard(self._node)
        raise await _refusal(response)

    def _end(self) -> None:
        self._fleet.watchman.end(self.watch)
        self._fleet.nodes.end(self._node)

    def _translate(self, error: BaseException) -> None:
        """Raises AttemptFailed for what is the node's doing, unless it is one."""
        if isinstance(error, AttemptFailed):
            self._fleet.failed(self._node, error)
            return
        if isinstance(error, UpstreamError):
            failed = AttemptFailed(_FAILURES.get(type(error), Failure.LOST), str(error))
        elif isinstance(error, WireError | BodyTooLarge):
            failed = AttemptFailed(Failure.MALFORMED, str(error))
        else:
            return
        self._fleet.failed(self._node, failed)
        raise failed from error


async def _refusal(response: UpstreamResponse) -> AttemptFailed | EngineRefused:
    failure = failure_of(response.status, response.headers)
    if failure is None:
        return read_refusal(response.status, await response.read(_MAX_REFUSAL_BYTES))
    return AttemptFailed(failure, f"the node answered {response.status}")


def failure_of(status: int, headers: Headers) -> Failure | None:
    """What an answer other than 200 says of the node; None when it is the request's own fault."""
    if status == 503 and headers.get(STATE_HEADER) == "draining":
        return Failure.DRAINING
    if status in (429, 503, 529):
        return Failure.OVERLOADED
    # What a node holds against us rather than against the request is the fleet's own fault; 424 is TGI's for
    # a model that failed.
    return None if 400 <= status < 500 and status not in (401, 403, 407, 408, 424) else Failure.ERROR
