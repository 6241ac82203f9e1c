"""The values that calls take and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeAlias

from .errors import ConfigurationError

# What any clock and any system call takes.
_LONGEST_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect`: one address. `first_token`: from sending until a stream's first event.
    `read`: silence inside a stream (a gateway says something every 15 s). `total`: the whole call.
    Each is more than nothing and at most a year; ConfigurationError otherwise."""

    connect: float = 5.0
    first_token: float = 60.0
    read: float = 45.0
    total: float = 600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds = getattr(self, field.name)
            if not (isinstance(seconds, int | float) and 0 < seconds <= _LONGEST_S):
                raise ConfigurationError(
                    f"Timeouts.{field.name} is {seconds!r}: seconds, more than 0, at most a year"
                )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one call tries. `retries` in a row without a new token, `resumes` of a stream in all;
    waits are drawn from 0 to `base_s` doubled each time, at most `cap_s`. A server that asks for more
    than `longest_wait_s` is not waited for. Where each failure tells of a gateway that is gone or drains, the
    limit is `losses`: until a load balancer has noticed, it may choose the same one many times."""

    retries: int = 4
    losses: int = 12
    resumes: int = 16
    base_s: float = 0.2
    cap_s: float = 5.0
    longest_wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation. `exact` is False when a cut had to be continued from text instead of token
    ids: the text is then a faithful continuation, but may differ from what an uncut stream had said."""

    text: str
    finish_reason: str
    usage: Usage | None
    request_id: str
    attempts: int
    resumes: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of a stream's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    owned_by: str | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """The same request is sent again after `wait_s` seconds."""

    request_id: str
    attempt: int
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """A cut stream goes on: the first event of its continuation has arrived."""

    request_id: str
    attempt: int
    reason: str
    tokens_before: int
    exact: bool


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No further attempt will be made; the call raises."""

    request_id: str
    attempts: int
    reason: str


Event: TypeAlias = Retried | Resumed | GaveUp
EventHook: TypeAlias = Callable[[Event], None]
