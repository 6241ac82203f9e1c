"""Whether, when and how often to try again: pure decisions about one failure, and the shared budget."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from .types import RetryPolicy

RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504, 529})

# A stream that ends with one of these is another node's to finish; anything else is the request's own fault.
_SERVER_SIDE_TYPES = frozenset(
    {
        "server_error",
        "api_error",
        "service_unavailable_error",
        "overloaded_error",
        "internal_error",
        "timeout",
        # TGI's words for the same.
        "generation",
        "overloaded",
    }
)
_FINAL_CODES = frozenset({"resume_unsupported"})
DRAINING: Final = "node_draining"

# Nobody who was told the same moment should come back in the same moment.
_RETRY_AFTER_SPREAD = 0.25

FailureKind = Literal["unreachable", "timeout", "lost", "cut", "unserved", "status", "event", "junk"]
# Behind a balancer that has not noticed yet.
_GATEWAY_LOST: Final[frozenset[FailureKind]] = frozenset({"lost", "cut", "unserved"})
_BALANCERS = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt did not finish. `unreachable`: nothing was sent; `lost`: no answer began; `cut`: it
    began and broke off; `unserved`: a balancer answered in a gateway's place. `others_left`: another address
    of the service is yet untried. `envelope`: the service's own error, as JSON."""

    kind: FailureKind
    detail: str
    retryable: bool = True
    status: int | None = None
    code: str | None = None
    retry_after_s: float | None = None
    others_left: bool = False
    cause: Exception | None = None
    envelope: object = None


class RetryBudget:
    """At most `ratio` of the requests of the last `window_s` seconds may be retries, but always `minimum`.

    One budget is shared by all calls of a client, so that clients do not multiply the load of a service
    that is sick. Going on with a cut stream repeats no work and is not charged; see also needs_budget.
    """

    def __init__(
        self, clock: Callable[[], float], *, ratio: float = 0.2, minimum: int = 3, window_s: float = 10.0
    ) -> None:
        self._clock = clock
        self._ratio = ratio
        self._minimum = minimum
        self._window_s = window_s
        self._lock = threading.Lock()
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()

    def count_request(self) -> None:
        with self._lock:
            now = self._clock()
            self._forget(now)
            self._requests.append(now)

    @property
    def remembered(self) -> int:
        """Requests and retries of the window, as far as they were counted."""
        return len(self._requests) + len(self._retries)

    def withdraw(self) -> bool:
        """Take one retry; False when none is left."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            if len(self._retries) >= max(self._minimum, int(self._ratio * len(self._requests))):
                return False
            self._retries.append(now)
            return True

    def _forget(self, now: float) -> None:
        for moments in (self._requests, self._retries):
            while moments and moments[0] <= now - self._window_s:
                moments.popleft()


def needs_budget(failure: Failure) -> bool:
    """An attempt that answers the loss of a gateway needs none: it replaces work that nobody does any more,
    and one gateway of two takes half of all calls with it at once."""
    return failure.kind != "unreachable" and not _tells_of_a_loss(failure)


def most_in_a_row(policy: RetryPolicy, failure: Failure) -> int:
    """Attempts in a row after which one more is not made."""
    return policy.losses if _tells_of_a_loss(failure) else policy.retries


def _tells_of_a_loss(failure: Failure) -> bool:
    return failure.kind in _GATEWAY_LOST or failure.code == DRAINING


def backoff_s(policy: RetryPolicy, failures: int, random: float) -> float:
    """Full jitter: anywhere between nothing and the doubled base. `failures` counts from 1."""
    return random * min(policy.cap_s, policy.base_s * 2.0 ** (failures - 1))


def wait_s(policy: RetryPolicy, failure: Failure, failures: int, random: float) -> float:
    """Never earlier than the server asked for."""
    if failure.retry_after_s is None:
        return backoff_s(policy, failures, random)
    return failure.retry_after_s * (1.0 + _RETRY_AFTER_SPREAD * random)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds asked for by `retry-after-ms` or `retry-after` (a number or an HTTP date)."""
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return millis / 1000.0
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0.0 <= number < float("inf") else None


def refusal(status: int, headers: Mapping[str, str], envelope: object, now: datetime) -> Failure:
    """A response that is not 200, by what it says of itself."""
    message, code, _ = _said(envelope)
    if status == 503 and headers.get("x-goldenfleet-state") == "draining":
        code = DRAINING  # TGI's envelope has no code
    asked = headers.get("x-should-retry", "").lower()
    retryable = asked == "true" or (asked != "false" and status in RETRYABLE_STATUS)
    detail = f"HTTP {status}: {message or _moved(status, headers) or 'no explanation'}"
    asked_s = retry_after_s(headers, now)
    # What speaks the API says why; a load balancer of its own has a page, or nothing, and no request id.
    unserved = status in _BALANCERS and not isinstance(envelope, Mapping) and "x-request-id" not in headers
    kind: FailureKind = "unserved" if unserved else "status"
    return Failure(kind, detail, retryable, status, code, asked_s, envelope=envelope)


def _moved(status: int, headers: Mapping[str, str]) -> str:
    """What to do about a redirection: to follow one would carry the key and the prompt elsewhere."""
    place = headers.get("location", "")[:200]
    return f"the service is at {place}: name that as base_url" if 300 <= status < 400 and place else ""


def error_event(envelope: object) -> Failure:
    """An error inside a stream: a server's trouble is a cut, a request's fault is final."""
    message, code, kind = _said(envelope)
    number = _number(code)
    server_side = kind in _SERVER_SIDE_TYPES or code == DRAINING or (number is not None and number >= 500)
    retryable = server_side and code not in _FINAL_CODES
    detail = f"error event {code or kind or '?'}: {message or '-'}"
    return Failure("event", detail, retryable, None, code, envelope=envelope)


def _said(envelope: object) -> tuple[str, str | None, str | None]:
    """Message, code and type out of OpenAI's envelope or TGI's."""
    if not isinstance(envelope, Mapping):
        return "", None, None
    error = envelope.get("error")
    if isinstance(error, Mapping):
        return str(error.get("message") or ""), _optional(error.get("code")), _optional(error.get("type"))
    return str(error or ""), None, _optional(envelope.get("error_type"))


def _optional(value: object) -> str | None:
    return None if value is None else str(value)
