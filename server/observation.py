"""What is seen of one request: counted, traced and logged when it ends. No text of it is kept.

Costs count here: `tokens` runs once per read of every stream, all else once or twice per request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from server.access_log import AccessLog
from server.errors import HeaderList
from server.metrics import Children, Metrics, is_safe
from server.moves import Moves
from server.traceparent import forwarded

if TYPE_CHECKING:
    # Loading the SDK takes a fifth of a second, which a process that traces nothing need not spend.
    from server.tracing import Trace, Tracing

TRACEPARENT = "traceparent"
OK = "ok"
CLIENT_GONE = "client_gone"
BUG = "internal_error"
NO_ROUTE = "none"
_HANDED_OVER = "node_draining"


class Log(Protocol):
    """The part of structlog's logger that is used here."""

    def info(self, event: str, **fields: object) -> object: ...


class Attempt:
    """One node's part in a request. Times are the observer's clock's."""

    __slots__ = ("began", "ended", "failure", "node")

    def __init__(self, node: str, began: float) -> None:
        self.node = node
        self.began = began
        self.ended: float | None = None
        self.failure: str | None = None


class Observation:
    """One request from its head to its response's end. Times are seconds of the observer's clock.

    `stream`, `model` and `tenant` are set once they are known; `first_token_s` is the time from the head to
    the first token.
    """

    __slots__ = (
        "_clock",
        "_heard",
        "_last_at",
        "_observer",
        "_silent",
        "_trace",
        "_traceparent",
        "_untraced",
        "attempts",
        "began",
        "completion_tokens",
        "ended_at",
        "finish_reason",
        "first_token_s",
        "longest_gap_s",
        "model",
        "outcome",
        "prompt_tokens",
        "request_id",
        "resumes",
        "retries",
        "route",
        "status",
        "stream",
        "tenant",
    )

    def __init__(self, observer: Observer, request_id: str, began: float, traceparent: str | None) -> None:
        self._observer = observer
        self._clock = observer.clock
        self._heard: Callable[[], None] | None = None
        self._silent = True
        self._last_at = began
        self._trace: Trace | None = None
        self._traceparent = traceparent
        self._untraced: HeaderList = []
        self.request_id = request_id
        self.route = NO_ROUTE
        self.began = began
        self.ended_at: float | None = None
        self.tenant: str | None = None
        self.model: str | None = None
        self.stream = False
        self.status: int | None = None
        self.outcome = BUG
        self.attempts: list[Attempt] = []
        self.retries = self.resumes = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.finish_reason: str | None = None
        self.first_token_s: float | None = None
        self.longest_gap_s = 0.0

    def routed(self, route: str) -> None:
        """There is such a route, by our own name for it. Only now is it worth a trace."""
        self.route = route
        if self._observer.tracing is not None:
            self._trace, self._untraced = self._observer.tracing.begin(self._traceparent, self.began)
        elif self._traceparent is not None:
            self._untraced = forwarded(self._traceparent)

    def admitted(self, first_token: Callable[[], None]) -> None:
        """The request has its place; `first_token` is told when its first token has come."""
        self._heard = first_token
        if self._trace is not None:
            self._trace.event("admitted", self._clock())

    def asked(self, model: object, *, stream: bool) -> None:
        """What the request is for, once its body is read."""
        self.model = model if isinstance(model, str) and is_safe(model) else None
        self.stream = stream

    @property
    def keeps_content(self) -> bool:
        """Whether `content` is wanted: prompts and answers are traced only where that is switched on."""
        return self._trace is not None and self._trace.keeps_content

    def content(self, prompt: object, answer: str) -> None:
        """For a trace, and only where `keeps_content`."""
        if self._trace is not None and self._trace.keeps_content:
            self._trace.content(prompt, answer)

    @property
    def trace_headers(self) -> HeaderList:
        """What tells the node that is asked now which trace it works for."""
        return self._untraced if self._trace is None else self._trace.headers

    def attempt(self, node: str) -> None:
        """Another node is asked."""
        now = self._clock()
        self._close_attempt(None, now)
        self.attempts.append(Attempt(node, now))
        if self._trace is not None:
            self._trace.attempt(node, now)

    def attempt_failed(self, failure: str) -> None:
        """The node that was asked last failed."""
        self._close_attempt(failure, self._clock())
        self._silent = True

    def retried(self, reason: str) -> None:
        """The same is asked of another node: nothing had been sent."""
        self.retries += 1
        self._observer.retried[reason,].inc()
        self._observer.moves.moved(self.request_id)
        self._observer.log.info("request.retried", request_id=self.request_id, reason=reason)

    def resumed(self, mode: str, reason: str = "", tokens: int = 0) -> None:
        """Another node continues after `tokens` tokens."""
        self.resumes += 1
        self._silent = True
        self._observer.resumed[mode,].inc()
        self._observer.moves.moved(self.request_id)
        if self._trace is not None:
            self._trace.resumed(mode, reason, tokens, self._clock())
        self._observer.log.info(
            "request.resumed", request_id=self.request_id, reason=reason, mode=mode, tokens=tokens
        )

    def first_token(self) -> None:
        """Something that was generated has come. Again is harmless."""
        if self._silent:
            self._spoke(self._clock())

    def tokens(self, count: int) -> None:
        """`count` tokens came in one read."""
        if not count:
            return
        now = self._clock()
        if self._silent:
            self._spoke(now)
        elif now - self._last_at > self.longest_gap_s:
            self.longest_gap_s = now - self._last_at
        self._last_at = now
        self.completion_tokens += count

    def usage(self, prompt: int, completion: int) -> None:
        """What the engine says that it was, which is better than a count of reads."""
        self.prompt_tokens = prompt
        self.completion_tokens = completion

    @property
    def mean_gap_s(self) -> float | None:
        """Between the tokens of a stream; None for fewer than two."""
        seconds = self.streaming_s
        return seconds / (self.completion_tokens - 1) if seconds and self.completion_tokens > 1 else None

    @property
    def streaming_s(self) -> float | None:
        """From the first token to the last, of a stream that had any."""
        if not self.stream or self.first_token_s is None:
            return None
        return self._last_at - self.began - self.first_token_s

    def ended(self, outcome: str, status: int | None) -> None:
        """`outcome` is ok, client_gone or an error's code; `status` None when no head was sent."""
        self.outcome, self.status = outcome, status
        self.ended_at = self._clock()
        self._close_attempt(None if outcome == OK else outcome, self.ended_at)
        self._observer.ended(self)
        if self._trace is not None:
            self._trace.ended(self, self.ended_at)

    def _spoke(self, now: float) -> None:
        self._silent = False
        self._last_at = now
        if self.first_token_s is None:
            self.first_token_s = now - self.began
            if self._heard is not None:
                self._heard()
        if self._trace is not None:
            self._trace.spoke(now)

    def _close_attempt(self, failure: str | None, now: float) -> None:
        if not self.attempts or self.attempts[-1].ended is not None:
            return
        self.attempts[-1].ended, self.attempts[-1].failure = now, failure
        if self._trace is not None:
            self._trace.attempt_ended(failure, now)


class Observer:
    """What the observations of a process feed: metrics, the access log and traces. `clock` is monotonic
    seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        log: structlog.typing.FilteringBoundLogger,
        access_log: AccessLog,
        clock: Callable[[], float],
        *,
        tracing: Tracing | None = None,
    ) -> None:
        self.clock = clock
        self.log: Log = log
        self.tracing = tracing
        self.moves = Moves()
        self.retried = Children(metrics.retried)
        self.resumed = Children(metrics.resumed)
        self._metrics = metrics
        self._access_log = access_log
        self._requests = Children(metrics.requests)
        self._served = Children(metrics.served)
        self._latency = Children(metrics.latency)
        self._first_token = Children(metrics.first_token)
        self._inter_token = Children(metrics.inter_token)
        self._token_rate = Children(metrics.token_rate)
        self._tokens = Children(metrics.tokens)

    def begin(self, request_id: str, traceparent: str | None = None) -> Observation:
        """A request's head has come. `traceparent` is its header of that name."""
        return Observation(self, request_id, self.clock(), traceparent)

    def ended(self, seen: Observation) -> None:
        """Called by the observation itself."""
        assert seen.ended_at is not None
        if seen.route == NO_ROUTE and seen.outcome == OK:
            # A balancer's probe.
            return
        self._requests[seen.route, seen.outcome].inc()
        self._latency[seen.route,].observe(seen.ended_at - seen.began)
        if seen.tenant is not None:
            self._count_served(seen, self._metrics.tenants.learn(seen.tenant))
        self._access_log.ended(seen)
        if seen.retries or seen.resumes:
            self.moves.moved(seen.request_id, seen.outcome)
        # One that was refused was never worked on.
        if seen.outcome == _HANDED_OVER and seen.attempts:
            self.moves.handed_over(seen.request_id)

    def _count_served(self, seen: Observation, tenant: str) -> None:
        # Only what was answered proves that there is such a model.
        models = self._metrics.models
        model = models.learn(seen.model) if seen.outcome == OK else models.of(seen.model)
        self._served[tenant, model, result_of(seen)].inc()
        if seen.prompt_tokens:
            self._tokens["prompt", tenant, model].inc(seen.prompt_tokens)
        if seen.completion_tokens:
            self._tokens["completion", tenant, model].inc(seen.completion_tokens)
        if seen.stream and seen.first_token_s is not None:
            self._first_token[seen.route, model].observe(seen.first_token_s)
            self._observe_pace(seen, model)

    def _observe_pace(self, seen: Observation, model: str) -> None:
        gap = seen.mean_gap_s
        if gap:
            self._inter_token[seen.route, model].observe(gap)
            self._token_rate[seen.route, model].observe(1 / gap)


def result_of(seen: Observation) -> str:
    """A request's end in one of four words: ok, gone (the client left), refused (its own fault), failed."""
    if seen.outcome == OK:
        return OK
    if seen.outcome == CLIENT_GONE:
        return "gone"
    return "refused" if seen.status is not None and 400 <= seen.status < 500 else "failed"
