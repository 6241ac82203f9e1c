"""Deadlines: every call ends in its time, and says so to the service."""

from __future__ import annotations

from time import time
from typing import Any

import pytest
from goldenfleet_client import (
    DeadlineExceeded,
    ServerFailed,
    Timeouts,
)

from server.app import DEADLINE_HEADER


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_the_deadline_ends_a_silent_call(callers: Any, service: Any, acts: Any, streamed: bool) -> None:
    """A service that never answers costs the deadline and no more; the connection is closed."""
    service.then(acts.silence)
    caller = callers(service.url, timeouts=Timeouts(total=0.3))
    started = time()
    outcome = caller.read() if streamed else caller.outcome("generate", "x")
    assert isinstance(outcome.error, DeadlineExceeded)
    assert 0.25 < time() - started < 2.0
    assert service.connections[0].left.wait(5)


def test_the_deadline_ends_a_stream_in_its_middle(callers: Any, service: Any, acts: Any) -> None:
    """The deadline holds inside a body, whatever the limit on silence; what was received is kept."""
    service.then(acts.speak(events=4, cut=acts.silence))
    outcome = callers(service.url, timeouts=Timeouts(total=0.4)).read()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert outcome.error.text == "Der Mond ist auf"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_the_deadline_ends_what_never_pauses(callers: Any, service: Any, acts: Any, streamed: bool) -> None:
    """An answer whose pieces come without a pause is no exception to the deadline."""
    now = [0.0]

    def late(connection: Any, seen: Any) -> bool:
        now[0] = 9.0
        return acts.speak()(connection, seen) if streamed else acts.whole(connection, seen)

    service.then(late)
    caller = callers(service.url, timeouts=Timeouts(total=8.0), clock=lambda: now[0])
    outcome = caller.read() if streamed else caller.outcome("generate", "x")
    assert isinstance(outcome.error, DeadlineExceeded)


def test_the_deadline_ends_retries(callers: Any, service: Any, acts: Any) -> None:
    """No attempt is begun, and none waited for, past the deadline."""
    service.then(acts.refuse(503, "retry-after: 5"))
    outcome = callers(service.url, timeouts=Timeouts(total=1.0)).outcome("generate", "x")
    assert isinstance(outcome.error, ServerFailed)
    assert "deadline" in str(outcome.error)
    assert len(service.seen) == 1


def test_the_deadline_travels(callers: Any, service: Any, acts: Any) -> None:
    """Each attempt says how many milliseconds are left, where the gateway looks for it; later ones fewer."""
    service.then(acts.refuse(503, "retry-after-ms: 30"), acts.whole)
    callers(service.url, timeouts=Timeouts(total=20.0)).call("generate", "x")
    first, second = [int(seen.headers[DEADLINE_HEADER]) for seen in service.seen]
    assert 20_000 >= first >= second + 30 > 19_000
