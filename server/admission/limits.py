"""Limits of keys and tenants: requests and tokens a minute, and requests at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from server.admission.bucket import Bucket
from server.auth.principal import Allowance, Principal
from server.errors import HeaderList, RateLimited

Kind = Literal["requests", "tokens"]
# A token of English is about four bytes; the charge is set right when the answer says what it was.
BYTES_PER_TOKEN = 4
# Requests at a time end at no known time.
_BUSY_RETRY_S = 1.0
_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit of one owner. `name` is the bucket's."""

    name: str
    kind: Kind
    capacity: int


class Left(NamedTuple):
    """What a rate allows after a request, and how long until it allows all of it again."""

    rate: Rate
    level: float
    reset_s: float


class Verdict(NamedTuple):
    """`wait_s` is 0 when everything was taken; otherwise nothing was, and `reached` says for which limit."""

    wait_s: float
    reached: Kind
    left: Sequence[Left]


class Meter(Protocol):
    """Where levels are kept: in this process, or in Redis for all gateways."""

    async def take(self, rates: Sequence[Rate], tokens: int) -> Verdict: ...
    def charge(self, rates: Sequence[Rate], tokens: int) -> None:
        """Tokens that turned out to be more, or less, than was taken."""
        ...


class LocalMeter:
    """`clock` is monotonic seconds. Each key has its buckets, and where keys have limits by default each
    subject of a token, so their number is bounded.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    async def take(self, rates: Sequence[Rate], tokens: int) -> Verdict:
        now = self._clock()
        found = []
        wait_s, reached = 0.0, rates[0].kind
        for rate in rates:
            bucket, cost = self._bucket(rate, now), 1 if rate.kind == "requests" else tokens
            found.append((rate, bucket, cost))
            if bucket.level < cost and (wait := bucket.wait_s(cost)) > wait_s:
                wait_s, reached = wait, rate.kind
        left = []
        for rate, bucket, cost in found:
            if not wait_s:
                bucket.level -= cost
            left.append(Left(rate, bucket.level, bucket.reset_s))
        return Verdict(wait_s, reached, left)

    def charge(self, rates: Sequence[Rate], tokens: int) -> None:
        now = self._clock()
        for rate in rates:
            if rate.kind == "tokens":
                self._bucket(rate, now).level -= tokens

    def _bucket(self, rate: Rate, now: float) -> Bucket:
        bucket = self._buckets.get(rate.name)
        if bucket is None or bucket.capacity != rate.capacity:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._make_room(now)
            bucket = self._buckets[rate.name] = Bucket.full(rate.capacity, now)
        bucket.fill(now)
        return bucket

    @property
    def remembered(self) -> int:
        return len(self._buckets)

    def _make_room(self, now: float) -> None:
        """A full bucket says no more than a new one; of the others the oldest go."""
        kept = [
            (name, bucket) for name, bucket in self._buckets.items() if bucket.fill(now) < bucket.capacity
        ]
        self._buckets = dict(kept[-_MOST_BUCKETS // 2 :])


@dataclass(frozen=True, slots=True)
class Terms:
    """What limits a principal: rates, and how many requests each owner may have at a time."""

    rates: tuple[Rate, ...]
    busy: tuple[tuple[str, int], ...]
    counts_tokens: bool


class Counts:
    """Requests under way, by owner."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}

    def enter(self, busy: Sequence[tuple[str, int]]) -> bool:
        """All of them or none."""
        running = self._running
        for owner, most in busy:
            if running.get(owner, 0) >= most:
                return False
        for owner, _ in busy:
            running[owner] = running.get(owner, 0) + 1
        return True

    def leave(self, busy: Sequence[tuple[str, int]]) -> None:
        for owner, _ in busy:
            left = self._running[owner] - 1
            if left:
                self._running[owner] = left
            else:
                del self._running[owner]


def terms_of(principal: Principal, defaults: Allowance) -> Terms | None:
    """None where nothing limits. `defaults` are for keys that have no limit of their own of a kind."""
    key = Allowance(
        principal.limits.requests_per_minute or defaults.requests_per_minute,
        principal.limits.tokens_per_minute or defaults.tokens_per_minute,
        principal.limits.concurrency or defaults.concurrency,
    )
    # In braces what Redis Cluster places by: one script may only see what lies together.
    owners = (
        (f"{{{principal.tenant}}}:key:{principal.key_id}", key),
        (f"{{{principal.tenant}}}", principal.tenant_limits),
    )
    rates = tuple(rate for owner, allowance in owners for rate in _rates(owner, allowance))
    busy = tuple((owner, allowed.concurrency) for owner, allowed in owners if allowed.concurrency)
    return Terms(rates, busy, any(rate.kind == "tokens" for rate in rates)) if rates or busy else None


def _rates(owner: str, allowance: Allowance) -> Sequence[Rate]:
    kinds: tuple[tuple[Kind, int | None], ...] = (
        ("requests", allowance.requests_per_minute),
        ("tokens", allowance.tokens_per_minute),
    )
    return [Rate(f"{owner}:{kind}", kind, capacity) for kind, capacity in kinds if capacity]


def limit_headers(left: Sequence[Left]) -> HeaderList:
    """OpenAI's x-ratelimit-* headers; of a key's and its tenant's limit the one that has less left."""
    tightest: dict[Kind, Left] = {}
    for item in left:
        known = tightest.get(item.rate.kind)
        if known is None or item.level < known.level:
            tightest[item.rate.kind] = item
    headers: HeaderList = []
    for kind, item in tightest.items():
        limit, remaining, reset = _HEADERS[kind]
        headers += [
            (limit, b"%d" % item.rate.capacity),
            (remaining, b"%d" % max(0, int(item.level))),
            (reset, duration(item.reset_s)),
        ]
    return headers


_HEADERS: dict[Kind, tuple[bytes, bytes, bytes]] = {
    kind: (
        f"x-ratelimit-limit-{kind}".encode(),
        f"x-ratelimit-remaining-{kind}".encode(),
        f"x-ratelimit-reset-{kind}".encode(),
    )
    for kind in ("requests", "tokens")
}


def duration(seconds: float) -> bytes:
    """As OpenAI writes it: 17ms, 1.5s, 6m0s."""
    milliseconds = int(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % max(0, milliseconds)
    if milliseconds < 60_000:
        return b"%d.%ds" % (milliseconds // 1000, milliseconds % 1000 // 100)
    return b"%dm%ds" % (milliseconds // 60_000, milliseconds % 60_000 // 1000)


def over_rate(verdict: Verdict) -> RateLimited:
    return RateLimited(
        "The limit of requests or tokens per minute is reached; try again later.",
        retry_after_s=verdict.wait_s,
        headers=limit_headers(verdict.left),
    )


def too_many_at_a_time() -> RateLimited:
    return RateLimited(
        "As many requests as the limit allows are under way; wait for one to end.",
        retry_after_s=_BUSY_RETRY_S,
        headers=[],
    )
