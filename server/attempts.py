"""One request's attempts: which node, and whether another is asked after it."""

from typing import Literal

from server import affinity
from server.ask import Ask, Fleet
from server.errors import AttemptFailed, EngineSilent, HeaderList, NodesFailed, RequestRefused
from server.observation import Observation
from server.pace import Pace, Wait
from server.resume import unsupported
from server.retry import (
    TOOK_NOTHING,
    UNREACHED,
    Action,
    Failure,
    Situation,
    backoff_s,
    calm_s,
    decide,
    needs_budget,
)
from server.silences import Silences
from server.upstreams import Node, NodeSet
from server.watch import Watch
from server.wire.openai import Generation

_UNAVAILABLE = TOOK_NOTHING | {Failure.OVERLOADED, Failure.SILENT}
# Whoever is held to its deadline is refused so long before it, to be told so in words.
_LAST_WORD_S = 0.25

Expects = Literal["tokens", "answer", "listing"]


class Attempts:
    """The attempts of one request, from its first to its last."""

    def __init__(
        self, fleet: Fleet, deadline: float, observation: Observation, generation: Generation | None = None
    ) -> None:
        """`deadline` is on the fleet's clock; `generation` is what is asked for, where it is one. Raises
        ModelNotFound.
        """
        self._fleet = fleet
        self._deadline = deadline
        self._observation = observation
        self._generation = generation
        self.model = fleet.model_of(generation.body.get("model") if generation else None)
        self._pace: Pace = fleet.paces.of(generation.body.get("model") if generation else None)
        self._last_word_s = min(_LAST_WORD_S, (deadline - fleet.clock()) / 10)
        self._key = self._place()
        self._tried: set[Node] = set()
        self._since_progress = 0
        self._total = 0
        self._too_slow = 0
        self._silences = Silences(fleet.nodes)
        self._asked: Node | None = None
        self._watch: Watch | None = None
        self._begun = self._booked = False

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._deadline - self._fleet.clock())

    async def next_node(self) -> Node:
        """Waits until there is one, not tried if possible. Raises NoNodeReady shortly before the deadline,
        and NodesFailed at once where requests are not held.
        """
        nodes = self._fleet.nodes
        if self._silences.count:
            await self._calm_down()
        while (node := nodes.pick(self._tried, self._key, self.model)) is None:
            if not self._fleet.limits.holds:
                raise _without_engine(nodes)
            # Any node will do: one that was tried and comes back may be all that is left.
            await nodes.wait_for_node(frozenset(), self._most_wait_s, self.model)
            if nodes.pick(self._tried, model=self.model) is None:
                await self._fleet.sleep(backoff_s(self._total, self._fleet.rng))
                self._tried.clear()
        self._tried.add(node)
        self._asked = node
        self._since_progress += 1
        self._total += 1
        self._observation.attempt(node.id)
        return node

    def ask(
        self, node: Node, method: str, target: str, headers: HeaderList, body: bytes, expects: Expects
    ) -> Ask:
        """One attempt. It is watched over: silence ends it, see server/watch.py."""
        fleet = self._fleet
        request = fleet.pool.request(node.address, method, target, headers, body)
        watch = Watch(
            node,
            request,
            self._wait(expects, len(body)),
            self._pace.gap,
            self._too_slow,
            self._book_move,
            fleet.clock(),
        )
        self._watch = watch
        return Ask(fleet, node, request, watch)

    @property
    def _most_wait_s(self) -> float:
        return self.seconds_left - self._last_word_s

    def _fell_silent(self) -> None:
        """What the node has cost the request is not counted before it is known whether it comes back."""
        assert self._asked is not None
        self._silences.fell(self._asked)
        self._since_progress -= 1
        self._total -= 1

    async def _calm_down(self) -> None:
        """Until another node may be risked, where some have fallen silent. Raises NoNodeReady."""
        fleet, most = self._fleet, self._fleet.limits.max_attempts
        pause_s = min(calm_s(self._silences.count, fleet.rng), self._most_wait_s)
        if pause_s > 0:
            await fleet.sleep(pause_s)
        await fleet.nodes.wait_until(
            lambda: self._since_progress + self._silences.since_progress < most, self._most_wait_s
        )

    def progressed(self, node: Node) -> None:
        """Content has come from `node`: a later cut is a new one."""
        self._tried = {node}
        self._since_progress = 1
        self._silences.progressed()
        self._begun = True
        if self._watch is not None:
            self._fleet.watchman.progressed(self._watch)

    def _wait(self, expects: Expects, request_bytes: int) -> Wait:
        if expects == "tokens":
            return self._pace.first(request_bytes)
        if expects == "listing":
            return self._pace.listing
        return self._pace.whole(self._generation.max_tokens if self._generation else None)

    def _place(self) -> int | None:
        characters = self._fleet.limits.affinity_characters
        if characters is None or self._generation is None:
            return None
        return affinity.key_of(self._generation.body, characters)

    def _book_move(self) -> bool:
        """Whether another node is there for what a live one is too slow with, and the move is allowed; then
        it is paid for at once, for many may be due in the same moment.
        """
        fleet, limits = self._fleet, self._fleet.limits
        if not limits.holds:
            # Its gateway waits for the same token, and knows where else the work could go.
            return False
        if self._since_progress >= limits.max_attempts or self._total >= limits.max_total_attempts:
            return False
        if not (fleet.nodes.has_ready(self._tried, self.model) and fleet.budget.allows()):
            return False
        if self._begun and self._generation is not None and unsupported(self._generation) is not None:
            return False
        fleet.budget.spend()
        self._booked = True
        return True

    def judge(self, failed: AttemptFailed, *, content_sent: bool) -> Action:
        """RETRY or RESUME. Raises NodesFailed when there is to be no other attempt."""
        self._observation.attempt_failed(failed.failure.value)
        if failed.failure is Failure.TIMEOUT:
            self._too_slow += 1
        if failed.failure in TOOK_NOTHING:
            self._since_progress -= 1
        if failed.failure in UNREACHED and self._fleet.limits.holds:
            # Nothing was asked. How long a node is left alone after it paces these, the deadline ends them.
            self._total -= 1
        if failed.failure is Failure.SILENT:
            self._fell_silent()
        situation = Situation(
            failure=failed.failure,
            attempts=self._since_progress,
            total=self._total + self._silences.in_all,
            max_attempts=self._fleet.limits.max_attempts,
            max_total=self._fleet.limits.max_total_attempts,
            content_sent=content_sent,
            seconds_left=self.seconds_left,
            elsewhere=self._fleet.nodes.has_ready(self._tried, self.model),
        )
        booked, self._booked = self._booked, False
        action = decide(situation, booked or self._fleet.budget.allows())
        if action is Action.GIVE_UP:
            raise given_up(failed) from failed
        if needs_budget(situation) and not booked:
            self._fleet.budget.spend()
        if action is Action.RETRY:
            self._observation.retried(failed.failure.value)
        return action


def _without_engine(nodes: NodeSet) -> RequestRefused:
    """What a node says that cannot ask its engine."""
    if any(node.silent for node in nodes.nodes):
        return EngineSilent()
    return NodesFailed("The engine does not answer; try another node.", status=503)


def given_up(failed: AttemptFailed) -> NodesFailed:
    """What the client is told after the last attempt; never what a node said."""
    if failed.failure in _UNAVAILABLE:
        return NodesFailed("No model node could take the request; try again later.", status=503)
    return NodesFailed("The model nodes failed to answer; try again later.")
