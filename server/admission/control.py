"""A gateway's admission: limits of the key and its tenant first, then a place."""

from collections.abc import Callable

from server.admission.limits import (
    BYTES_PER_TOKEN,
    Counts,
    Meter,
    Terms,
    limit_headers,
    over_rate,
    terms_of,
    too_many_at_a_time,
)
from server.admission.slots import Slot, Slots
from server.auth.principal import Allowance, Principal, Priority
from server.errors import BadRequest, HeaderList
from server.http.exchange import Request
from server.http.headers import Headers

PRIORITY_HEADER = "x-goldenfleet-priority"
_PRIORITY = PRIORITY_HEADER.encode()
_MOST_TERMS = 10_000
_PRIORITIES = {priority.name.lower().encode(): priority for priority in Priority}
_NO_HEADERS: HeaderList = []


class AdmissionControl:
    """`queue_s` bounds the wait for a place; `limited` is told which kind of limit was reached."""

    def __init__(
        self,
        meter: Meter,
        slots: Slots,
        defaults: Allowance,
        *,
        queue_s: float,
        limited: Callable[[str], None],
    ) -> None:
        self.meter = meter
        self._slots = slots
        self._defaults = defaults
        self._queue_s = queue_s
        self._counts = Counts()
        self._terms: dict[Principal, Terms | None] = {}
        self._limited = limited

    async def admit(self, principal: Principal, request: Request) -> "ControlTicket":
        """Raises RateLimited, or BadRequest for a priority that does not exist."""
        priority = priority_of(request.headers, principal.priority)
        terms = self._terms_of(principal)
        if terms is None:
            return ControlTicket(self._slots, priority, self._queue_s, None, None, _NO_HEADERS, 0)
        if not self._counts.enter(terms.busy):
            self._limited("concurrency")
            raise too_many_at_a_time()
        try:
            return await self._within_rates(terms, priority, request)
        except BaseException:
            self._counts.leave(terms.busy)
            raise

    def over(self, terms: Terms, tokens: int) -> None:
        """A request has ended that cost `tokens` more than was taken for it."""
        self._counts.leave(terms.busy)
        if tokens:
            self.meter.charge(terms.rates, tokens)

    async def _within_rates(self, terms: Terms, priority: Priority, request: Request) -> "ControlTicket":
        headers, taken = _NO_HEADERS, 0
        if terms.rates:
            taken = _prompt_tokens(request.headers) if terms.counts_tokens else 0
            verdict = await self.meter.take(terms.rates, taken)
            if verdict.wait_s:
                self._limited(verdict.reached)
                raise over_rate(verdict)
            headers = limit_headers(verdict.left)
        return ControlTicket(self._slots, priority, self._queue_s, self, terms, headers, taken)

    def _terms_of(self, principal: Principal) -> Terms | None:
        try:
            return self._terms[principal]
        except KeyError:
            if len(self._terms) >= _MOST_TERMS:
                self._terms.clear()
            found = self._terms[principal] = terms_of(principal, self._defaults)
            return found


class ControlTicket:
    """A request's place and what it owes."""

    __slots__ = ("_control", "_priority", "_queue_s", "_slot", "_slots", "_taken", "_terms", "headers")

    def __init__(
        self,
        slots: Slots,
        priority: Priority,
        queue_s: float,
        control: AdmissionControl | None,
        terms: Terms | None,
        headers: HeaderList,
        taken: int,
    ) -> None:
        self.headers = headers
        self._slots = slots
        self._priority = priority
        self._queue_s = queue_s
        self._control = control
        self._terms = terms
        self._taken = taken
        self._slot: Slot | None = None

    def try_slot(self) -> bool:
        self._slot = self._slots.try_acquire()
        return self._slot is not None

    async def slot(self, seconds: float) -> None:
        self._slot = await self._slots.acquire(self._priority, min(seconds, self._queue_s))

    def first_token(self) -> None:
        if self._slot is not None:
            self._slot.first_token()

    def unary(self) -> None:
        if self._slot is not None:
            self._slots.expire_later(self._slot)

    def refused(self) -> None:
        self._slots.refused()

    def end(self, prompt_tokens: int, answer_tokens: int) -> None:
        if self._slot is not None:
            self._slot.end()
        if self._control is not None and self._terms is not None:
            missing = prompt_tokens - self._taken if prompt_tokens else 0
            self._control.over(self._terms, missing + answer_tokens)


def priority_of(headers: Headers, highest: Priority) -> Priority:
    """The key's class, or a lower one that the request asks for. Raises BadRequest."""
    for name, value in headers:
        if name == _PRIORITY:
            asked = _PRIORITIES.get(value.strip().lower())
            if asked is None:
                raise BadRequest(f"`{PRIORITY_HEADER}` must be low, normal or high.")
            return min(asked, highest)
    return highest


def _prompt_tokens(headers: Headers) -> int:
    # The HTTP layer has checked that it is a number; a chunked body has none, and is charged afterwards.
    for name, value in headers:
        if name == b"content-length":
            return int(value) // BYTES_PER_TOKEN
    return 0
