"""One request's attempts: which node, what its answer means, and whether to ask another."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from server.errors import (
    AttemptFailed,
    EngineRefused,
    HeaderList,
    NodesFailed,
    WireError,
)
from server.http.client import UpstreamPool, UpstreamResponse
from server.http.errors import (
    BodyCut,
    BodyTooLarge,
    ConnectFailed,
    ResponseLost,
    UpstreamError,
    UpstreamTimeout,
)
from server.http.headers import Headers
from server.retry import TOOK_NOTHING, Action, Budget, Failure, Situation, backoff_s, decide, needs_budget
from server.telemetry import Telemetry
from server.upstreams import Node, NodeSet
from server.wire.openai import read_refusal

STATE_HEADER = "x-goldenfleet-state"
_MAX_REFUSAL_BYTES = 64 * 1024
_FAILURES: dict[type[UpstreamError], Failure] = {
    ConnectFailed: Failure.CONNECT,
    ResponseLost: Failure.LOST,
    BodyCut: Failure.CUT,
    UpstreamTimeout: Failure.TIMEOUT,
}
_UNAVAILABLE = frozenset({Failure.CONNECT, Failure.DRAINING, Failure.OVERLOADED})


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes within which one request stays. `holds`: as long as every node refuses connections
    it waits for one.
    """

    holds: bool
    max_attempts: int
    max_total_attempts: int
    first_byte_s: float
    silence_s: float
    max_response_bytes: int


@dataclass(frozen=True)
class Fleet:
    """What all requests share. `clock` is monotonic seconds."""

    nodes: NodeSet
    pool: UpstreamPool
    budget: Budget
    limits: Limits
    telemetry: Telemetry
    rng: Random
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

    @asynccontextmanager
    async def ask(
        self,
        node: Node,
        method: str,
        target: str,
        headers: HeaderList,
        body: bytes,
        *,
        head_timeout_s: float,
    ) -> AsyncIterator[UpstreamResponse]:
        """One attempt. Raises AttemptFailed for what the node did, EngineRefused for the request's fault.

        Errors of reading the response inside the context are translated too.
        """
        try:
            with self.nodes.sending(node):
                async with self.pool.request(
                    node.address,
                    method,
                    target,
                    headers,
                    body,
                    head_timeout_s=head_timeout_s,
                    chunk_timeout_s=self.limits.silence_s,
                ) as response:
                    self.nodes.answered(node)
                    if response.headers.get(STATE_HEADER) == "draining":
                        self.nodes.drains(node, refuses=response.status == 503)
                    if response.status != 200:
                        raise await _refusal(response)
                    yield response
        except UpstreamError as exc:
            failure = _FAILURES.get(type(exc), Failure.LOST)
            raise self._failed(node, AttemptFailed(failure, str(exc))) from exc
        except (WireError, BodyTooLarge) as exc:
            raise self._failed(node, AttemptFailed(Failure.MALFORMED, str(exc))) from exc
        except AttemptFailed as exc:
            raise self._failed(node, exc) from exc.__cause__

    def _failed(self, node: Node, failed: AttemptFailed) -> AttemptFailed:
        if failed.failure is Failure.DRAINING:
            self.nodes.drains(node, refuses=True)
            return failed
        self.nodes.failed(node)
        if failed.failure is Failure.CONNECT:
            self.nodes.refused_connection(node)
        elif failed.failure in (Failure.LOST, Failure.CUT, Failure.TIMEOUT):
            self.nodes.suspected(node)
        return failed


class Attempts:
    """The attempts of one request, from its first to its last."""

    def __init__(self, fleet: Fleet, deadline: float, request_id: str) -> None:
        """`deadline` is on the fleet's clock."""
        self._fleet = fleet
        self._deadline = deadline
        self._request_id = request_id
        self._tried: set[Node] = set()
        self._since_progress = 0
        self._total = 0

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._deadline - self._fleet.clock())

    async def next_node(self) -> Node:
        """Waits until there is one, not tried if possible. Raises NoNodeReady at the deadline."""
        nodes = self._fleet.nodes
        while (node := nodes.pick(self._tried)) is None:
            # Any node will do: one that was tried and comes back may be all that is left.
            await nodes.wait_for_node(frozenset(), self.seconds_left)
            if nodes.pick(self._tried) is None:
                await self._fleet.sleep(backoff_s(self._total, self._fleet.rng))
                self._tried.clear()
        self._tried.add(node)
        self._since_progress += 1
        self._total += 1
        return node

    def progressed(self, node: Node) -> None:
        """Content has come from `node`: a later cut is a new one."""
        self._tried = {node}
        self._since_progress = 1

    def judge(self, failed: AttemptFailed, *, content_sent: bool) -> Action:
        """RETRY or RESUME. Raises NodesFailed when there is to be no other attempt."""
        if failed.failure in TOOK_NOTHING:
            self._since_progress -= 1
        if failed.failure is Failure.CONNECT and self._fleet.limits.holds:
            # Nothing was asked. How long a node is left alone after it paces these, the deadline ends them.
            self._total -= 1
        situation = Situation(
            failure=failed.failure,
            attempts=self._since_progress,
            total=self._total,
            max_attempts=self._fleet.limits.max_attempts,
            max_total=self._fleet.limits.max_total_attempts,
            content_sent=content_sent,
            seconds_left=self.seconds_left,
        )
        action = decide(situation, self._fleet.budget.allows())
        if action is Action.GIVE_UP:
            raise given_up(failed) from failed
        if needs_budget(situation):
            self._fleet.budget.spend()
        if action is Action.RETRY:
            self._fleet.telemetry.retried.labels(reason=failed.failure.value).inc()
            self._fleet.telemetry.log.info(
                "request.retried", request_id=self._request_id, reason=failed.failure.value
            )
        return action


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
    # What a node holds against us rather than against the request is the fleet's own fault.
    return None if 400 <= status < 500 and status not in (401, 403, 407, 408) else Failure.ERROR


def given_up(failed: AttemptFailed) -> NodesFailed:
    """What the client is told after the last attempt; never what a node said."""
    if failed.failure in _UNAVAILABLE:
        return NodesFailed("No model node could take the request; try again later.", status=503)
    return NodesFailed("The model nodes failed to answer; try again later.")
