"""Limits that all gateways share, in Redis. While it is away each gateway keeps them by itself."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import redis.asyncio
from redis.exceptions import RedisError

from server.admission.limits import Left, LocalMeter, Rate, Verdict

_TIMEOUT_S = 0.25
_CONNECTIONS = 32
_RETRY_S = 5.0
_FLUSH_S = 1.0
# While Redis is away debts are kept only so far, in capacities of a minute: what was let in then was within
# the gateway's own limit, and nobody is to be refused for more than a minute after it, however long it was.
_MOST_OWED = 2
_MOST_OWERS = 10_000

# One round trip for all of a request's rates: fill, pay debts, look, and take from all or from none.
# Redis' own clock counts, so that gateways' need not agree.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local levels, wait, reached = {}, 0, 1
for i, key in ipairs(KEYS) do
  local capacity, cost, debt = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
  local found = redis.call('HMGET', key, 'level', 'at')
  local level = tonumber(found[1]) or capacity
  local passed = math.max(0, now - (tonumber(found[2]) or now))
  level = math.min(capacity, level + passed * capacity / 60) - debt
  levels[i] = level
  local missing = (math.min(cost, capacity) - level) * 60 / capacity
  if missing > wait then wait, reached = missing, i end
end
local answer = {tostring(wait), reached}
for i, key in ipairs(KEYS) do
  local capacity = tonumber(ARGV[3*i-2])
  if wait <= 0 then levels[i] = levels[i] - tonumber(ARGV[3*i-1]) end
  redis.call('HSET', key, 'level', tostring(levels[i]), 'at', tostring(now))
  redis.call('EXPIRE', key, math.ceil((capacity - levels[i]) * 60 / capacity) + 60)
  answer[i+2] = tostring(levels[i])
end
return answer
"""


class Log(Protocol):
    def info(self, event: str, **fields: object) -> object: ...
    def warning(self, event: str, **fields: object) -> object: ...


class SharedMeter:
    """`clock` is monotonic seconds; `url` may hold a password, and is neither logged nor kept."""

    def __init__(
        self,
        url: str,
        local: LocalMeter,
        clock: Callable[[], float],
        log: Log,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            decode_responses=True,
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        # Redis' stubs do not say that the asynchronous client's script is awaited.
        self._script: Any = self._redis.register_script(_TAKE)
        self._local = local
        self._clock = clock
        self._log = log
        self._owed: dict[Rate, int] = {}
        self._away_until = float("-inf")
        self.available = True

    async def take(self, rates: Sequence[Rate], tokens: int) -> Verdict:
        """In Redis; while that is away, or slow, by this gateway's own count."""
        if self._clock() < self._away_until:
            return await self._local.take(rates, tokens)
        costs = [1 if rate.kind == "requests" else tokens for rate in rates]
        try:
            return await self._take(rates, costs)
        except (RedisError, OSError, TimeoutError) as exc:
            self._lost(exc)
            return await self._local.take(rates, tokens)

    def charge(self, rates: Sequence[Rate], tokens: int) -> None:
        """Paid with the next request of the same owner, or within a second."""
        self._local.charge(rates, tokens)
        for rate in rates:
            if rate.kind == "tokens":
                self._owe(rate, tokens)

    async def run(self) -> None:
        """For ever: pay what is owed."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Pay what is owed now."""
        if self._clock() < self._away_until:
            return
        for rate in list(self._owed):
            try:
                await self._take([rate], [0])
            except (RedisError, OSError, TimeoutError) as exc:
                self._lost(exc)
                return

    async def aclose(self) -> None:
        await self.flush()
        await self._redis.aclose()

    async def _take(self, rates: Sequence[Rate], costs: Sequence[int]) -> Verdict:
        owed = [self._owed.pop(rate, 0) for rate in rates]
        arguments = [
            value
            for rate, cost, debt in zip(rates, costs, owed, strict=True)
            for value in (rate.capacity, cost, debt)
        ]
        try:
            wait, reached, *levels = await self._script(
                keys=[f"goldenfleet:limits:{rate.name}" for rate in rates], args=arguments
            )
        except BaseException:
            # Also when the client left: whether it was paid is not known, and a debt is better paid twice.
            for rate, debt in zip(rates, owed, strict=True):
                if debt:
                    self._owe(rate, debt)
            raise
        self._back()
        left = [
            Left(rate, float(level), (rate.capacity - float(level)) * 60 / rate.capacity)
            for rate, level in zip(rates, levels, strict=True)
        ]
        return Verdict(float(wait), rates[int(reached) - 1].kind, left)

    def _owe(self, rate: Rate, tokens: int) -> None:
        owed = self._owed.get(rate, 0) + tokens
        if not self.available:
            owed = min(owed, _MOST_OWED * rate.capacity)
            if rate not in self._owed and len(self._owed) >= _MOST_OWERS:
                del self._owed[next(iter(self._owed))]
        self._owed[rate] = owed

    @property
    def owing(self) -> int:
        """Limits of which something is yet to be paid."""
        return len(self._owed)

    def _lost(self, exc: Exception) -> None:
        self._away_until = self._clock() + _RETRY_S
        if self.available:
            # Not the error's text, which may quote the URL.
            self._log.warning("limits.shared_lost", error=type(exc).__name__)
        self.available = False

    def _back(self) -> None:
        if not self.available:
            self._log.info("limits.shared_back")
        self.available = True
