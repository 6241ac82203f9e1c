"""One JSON line per request, at its end: which, how it went, how long it took. Never what it said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import structlog
from prometheus_client import Counter

if TYPE_CHECKING:
    from server.observation import Observation

Mode = Literal["off", "troubled", "all"]

# A flood of refusals must not become a flood of lines.
MOST_TROUBLED_A_SECOND = 50


class AccessLog:
    """`troubled` logs what failed, was refused or took more than one attempt, at most
    MOST_TROUBLED_A_SECOND of them a second; `all` logs every request. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        mode: Mode,
        log: structlog.typing.FilteringBoundLogger,
        dropped: Counter,
        clock: Callable[[], float],
    ) -> None:
        self._mode = mode
        self._log = log
        self._dropped = dropped
        self._clock = clock
        self._window = 0.0
        self._lines = 0

    def ended(self, seen: Observation) -> None:
        if self._mode == "all":
            self._log.info("request.ended", **fields(seen))
        elif self._mode == "troubled" and (seen.outcome != "ok" or len(seen.attempts) > 1):
            if self._has_room():
                self._log.info("request.ended", **fields(seen))
            else:
                self._dropped.inc()

    def _has_room(self) -> bool:
        now = self._clock()
        if now - self._window >= 1:
            self._window, self._lines = now, 0
        self._lines += 1
        return self._lines <= MOST_TROUBLED_A_SECOND


def fields(seen: Observation) -> dict[str, object]:
    """Milliseconds, counts and names: nothing that a client wrote, but names that are safe to write."""
    assert seen.ended_at is not None
    ttft_s = seen.first_token_s
    return {
        "request_id": seen.request_id,
        "route": seen.route,
        "outcome": seen.outcome,
        "status": seen.status,
        "tenant": seen.tenant,
        "model": seen.model,
        "stream": seen.stream,
        "ms": round((seen.ended_at - seen.began) * 1000, 1),
        "ttft_ms": None if ttft_s is None else round(ttft_s * 1000, 1),
        "prompt_tokens": seen.prompt_tokens,
        "completion_tokens": seen.completion_tokens,
        "attempts": len(seen.attempts),
        "resumes": seen.resumes,
        "nodes": [attempt.node for attempt in seen.attempts],
    }
