"""
How a call goes, without any I/O: a script is a generator that yields what is to be done next and is sent
what came of it. The sync and the async client only carry scripts out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn, TypeAlias, TypeVar

from . import errors
from ._calls import Request
from ._retry import Failure, RetryBudget, most_in_a_row, needs_budget, refusal, wait_s
from ._sse import SseDecoder
from ._transcript import Account, Transcript
from .types import Event, GaveUp, Generation, Resumed, Retried, RetryPolicy, Timeouts

T = TypeVar("T")

# Below this no more time is left: a socket's timeout may fire a moment early.
_AN_INSTANT_S = 0.005
# Between the finish reason and [DONE] only the usage can follow.
_TAIL_S = 5.0
# After [DONE] only the end of the body can follow; a moment for it lets the connection be used again.
_BODY_END_S = 0.2
# An error body is read only for its message.
_LONGEST_REFUSAL = 64 * 1024
_TOO_LATE = Failure("timeout", "the deadline passed")
_UNFINISHED = Failure("cut", "the stream ended without its terminal event")


@dataclass(frozen=True, slots=True)
class Send:
    """Open an exchange. `fresh`: on a new connection, at an address not yet tried where there is one."""

    request: Request
    headers: Mapping[str, str]
    fresh: bool
    connect_s: float
    head_s: float


@dataclass(frozen=True, slots=True)
class Read:
    """The next piece of the body, or why there is none within `timeout_s`."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the exchange, so that the service stops working for it."""


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    event: Event


@dataclass(frozen=True, slots=True)
class Emit:
    """What the caller iterates over: a Chunk, or one of another wire format's."""

    piece: object


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """The body is complete by its framing, which says nothing about the stream inside."""


Command: TypeAlias = Send | Read | HangUp | Wait | Tell | Emit
Reply: TypeAlias = Head | bytes | BodyEnd | Failure | None
Script: TypeAlias = Generator[Command, Reply, T]


@dataclass(frozen=True, slots=True)
class Means:
    """What a script needs from outside: time, chance, and what the client's calls share."""

    clock: Callable[[], float]
    today: Callable[[], datetime]
    random: Callable[[], float]
    budget: RetryBudget
    policy: RetryPolicy
    timeouts: Timeouts
    headers: Mapping[str, str]
    request_id: str


class Call:
    """The attempts of one call, up to its deadline."""

    def __init__(self, means: Means) -> None:
        self.means = means
        self.attempts = 0
        self.failures_in_a_row = 0
        self.resumes = 0
        self._deadline: Final = means.clock() + means.timeouts.total
        means.budget.count_request()

    @property
    def left_s(self) -> float:
        return self._deadline - self.means.clock()

    def send(self, request: Request, head_s: float) -> Send:
        self.attempts += 1
        left_s = max(self.left_s, _AN_INSTANT_S)
        headers = {
            **self.means.headers,
            "x-request-id": self.means.request_id,
            "x-request-timeout-ms": str(math.ceil(left_s * 1000)),
        }
        connect_s = min(self.means.timeouts.connect, left_s)
        return Send(request, headers, self.attempts > 1, connect_s, min(head_s, left_s))

    def read(self, timeout_s: float) -> Read:
        return Read(max(_AN_INSTANT_S, min(timeout_s, self.left_s)))


def unary(means: Means, request: Request, parse: Callable[[object, Call], T]) -> Script[T]:
    """One request, one JSON answer; tried again as a whole. `parse` raises ValueError on a strange answer."""
    call = Call(means)
    while True:
        outcome = yield from _exchange(call, request)
        if not isinstance(outcome, Failure):
            try:
                return parse(json.loads(outcome), call)
            except ValueError as exc:
                outcome = Failure("junk", f"an answer that makes no sense: {exc}", cause=exc)
        yield from _try_again(call, outcome)


def _exchange(call: Call, request: Request) -> Script[bytes | Failure]:
    head = yield call.send(request, call.left_s)
    if not isinstance(head, Head):
        return _failed(head)
    if head.status != 200:
        return (yield from _refused(call, head))
    return (yield from _body(call, limit=None))


def _body(call: Call, limit: int | None) -> Script[bytes | Failure]:
    body = bytearray()
    while limit is None or len(body) < limit:
        if call.left_s <= 0:
            return _TOO_LATE
        piece = yield call.read(call.left_s)
        if isinstance(piece, BodyEnd):
            break
        if not isinstance(piece, bytes):
            return _failed(piece)
        body += piece
    return bytes(body)


def _refused(call: Call, head: Head) -> Script[Failure]:
    body = yield from _body(call, _LONGEST_REFUSAL)
    try:
        envelope = None if isinstance(body, Failure) else json.loads(body)
    except ValueError:
        envelope = None
    return refusal(head.status, head.headers, envelope, call.means.today())


def _failed(reply: Reply) -> Failure:
    assert isinstance(reply, Failure), f"no reply to what was asked: {reply!r}"
    return reply


def stream(means: Means, request: Request) -> Script[Generation]:
    """See relay."""
    call, transcript = Call(means), Transcript(request)
    yield from relay(call, transcript)
    return Generation(
        text=transcript.text,
        finish_reason=transcript.finish_reason or "",
        usage=transcript.usage,
        request_id=call.means.request_id,
        attempts=call.attempts,
        resumes=call.resumes,
        exact=transcript.exact,
    )


def relay(call: Call, account: Account) -> Script[None]:
    """A stream that goes on over cuts. It ends without an error only after a finish reason was read."""
    reason = ""
    while True:
        before = account.tokens
        failure = yield from _stream_once(call, account, reason)
        for piece in account.end_if_full():
            yield Emit(piece)
        if account.finish_reason is not None:
            return
        reason = failure.detail
        yield from _go_on(call, account, failure, progressed=account.tokens > before)


def _stream_once(call: Call, account: Account, cut_by: str) -> Script[Failure]:
    """One attempt, to its end. That it failed matters only while the account has no finish reason."""
    timeouts = call.means.timeouts
    account.begin_attempt()
    first_by = call.means.clock() + timeouts.first_token
    head = yield call.send(account.continuation(), timeouts.first_token)
    if not isinstance(head, Head):
        return _failed(head)
    if head.status != 200:
        return (yield from _refused(call, head))
    events = _Events(SseDecoder(), tokens_before=account.tokens, cut_by=cut_by)
    while events.ended is None:
        # What comes without a pause would never meet the limit of one read.
        if call.left_s <= 0:
            return _TOO_LATE
        quiet_s = timeouts.read if events.heard else first_by - call.means.clock()
        piece = yield call.read(_TAIL_S if account.finish_reason else quiet_s)
        if isinstance(piece, bytes):
            yield from events.take(call, account, piece)
        else:
            events.ended = _UNFINISHED if isinstance(piece, BodyEnd) else _failed(piece)
    return events.ended


class _Events:
    """The events of one attempt."""

    def __init__(self, decoder: SseDecoder, *, tokens_before: int, cut_by: str) -> None:
        self._decoder = decoder
        self._tokens_before = tokens_before
        self._cut_by = cut_by
        self.heard = False
        self.ended: Failure | None = None

    def take(self, call: Call, account: Account, piece: bytes) -> Script[None]:
        for data in self._decoder.feed(piece):
            if data == "[DONE]":
                yield call.read(_BODY_END_S)
                self.ended = _UNFINISHED
                return
            pieces = account.take(data)
            if isinstance(pieces, Failure):
                self.ended = pieces
                return
            yield from self._hear(call, account, pieces)
            if account.stopped:
                self.ended = _UNFINISHED
                return
        if self._decoder.junk is not None:
            self.ended = Failure("junk", self._decoder.junk)

    def _hear(self, call: Call, account: Account, pieces: Sequence[object]) -> Script[None]:
        if not self.heard and self._tokens_before:
            call.resumes += 1
            means, before = call.means, self._tokens_before
            yield Tell(Resumed(means.request_id, call.attempts, self._cut_by, before, account.exact))
        self.heard = True
        for piece in pieces:
            yield Emit(piece)


def _go_on(call: Call, account: Account, failure: Failure, *, progressed: bool) -> Script[None]:
    """Clear the way for the continuation of a cut stream, or raise."""
    why_not = account.why_not_continuable() if account.tokens else None
    if why_not is None and call.resumes >= call.means.policy.resumes:
        why_not = f"it was continued {call.resumes} times already"
    refused = failure.kind == "status" and not failure.retryable
    if why_not is None and refused and not progressed and account.give_up_ids():
        yield HangUp()
        return
    received = Received(account.text, progressed)
    yield from _try_again(call, failure, received, why_not)


@dataclass(frozen=True, slots=True)
class Received:
    """What a stream had said when it was cut; `progressed`: something of it in the last attempt."""

    text: str
    progressed: bool


def _try_again(
    call: Call, failure: Failure, received: Received | None = None, why_not: str | None = None
) -> Script[None]:
    """Wait for the next attempt's time, or raise what this failure means to the caller."""
    yield HangUp()
    means = call.means
    progressed = received is not None and received.progressed
    call.failures_in_a_row = 0 if progressed else call.failures_in_a_row + 1
    pause_s = wait_s(means.policy, failure, max(1, call.failures_in_a_row), means.random())
    if failure.others_left and why_not is None and call.left_s > _AN_INSTANT_S:
        call.failures_in_a_row -= 1
        yield Tell(Retried(means.request_id, call.attempts, failure.detail, 0.0))
        return
    why_not = why_not or _why_not(call, failure, pause_s, progressed)
    if why_not is not None:
        yield Tell(GaveUp(means.request_id, call.attempts, f"{failure.detail}; {why_not}"))
        _raise(call, failure, why_not, received)
    yield Tell(Retried(means.request_id, call.attempts, failure.detail, pause_s))
    yield Wait(pause_s)


def _why_not(call: Call, failure: Failure, pause_s: float, progressed: bool) -> str | None:
    policy = call.means.policy
    if not failure.retryable:
        return "asking again would not help"
    if call.left_s <= pause_s:
        return f"the next attempt would be past the deadline of {call.means.timeouts.total:g} s"
    asked_s = failure.retry_after_s
    if asked_s is not None and asked_s > policy.longest_wait_s:
        return f"the service asks to wait {asked_s:g} s"
    if call.failures_in_a_row > most_in_a_row(policy, failure):
        return f"{call.failures_in_a_row} attempts in a row failed"
    if not progressed and needs_budget(failure) and not call.means.budget.withdraw():
        return "the client's retry budget is used up"
    return None


def _raise(call: Call, failure: Failure, why_not: str, received: Received | None) -> NoReturn:
    text = received.text if received else ""
    message = f"{failure.detail.rstrip('.')}; {why_not}"
    said = errors.Circumstances(call.means.request_id, call.attempts, text, failure.envelope)
    raise _error(call, failure, message, said, streaming=received is not None) from failure.cause


def _error(
    call: Call, failure: Failure, message: str, said: errors.Circumstances, *, streaming: bool
) -> errors.GoldenfleetError:
    if call.left_s <= _AN_INSTANT_S:
        return errors.DeadlineExceeded(message, said)
    if said.text or (streaming and failure.kind == "cut"):
        return errors.StreamTruncated(message, said)
    if failure.kind in ("unreachable", "timeout", "lost", "cut"):
        return errors.ConnectionFailed(message, said)
    kind = errors.for_status(failure.status) if failure.status else errors.ServerFailed
    if failure.kind == "event" and not failure.retryable:
        kind = errors.RequestRefused
    return kind(message, said, status=failure.status, code=failure.code, retry_after_s=failure.retry_after_s)
