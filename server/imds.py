"""The instance metadata service: who this instance is, and whether it will be taken away.

Paths, bodies and timings: AWS EC2 user guide (IMDSv2, spot interruption notices, scheduled events), EC2
Auto Scaling user guide (target lifecycle state), and aws-node-termination-handler for its intervals.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import aiohttp

from server.drain import EventLog

_TOKEN_TTL_S = 3600
_RENEW_EARLY_S = 15
_TIMEOUT_S = 2.0
_TRIES = 3
# Metadata are short; what is longer is not IMDS.
_MAX_BODY = 64 * 1024

NoticeKind = Literal["spot", "rebalance", "scale-in", "maintenance"]


@dataclass(frozen=True)
class Notice:
    """Word that this node will go. `deadline` is unix seconds, or None where AWS names none."""

    kind: NoticeKind
    deadline: float | None
    source: str

    @property
    def drains(self) -> bool:
        """A rebalance recommendation is a forecast: it is recorded, and the fleet acts on it."""
        return self.kind != "rebalance"


@dataclass(frozen=True)
class Identity:
    """Who this instance says it is."""

    instance_id: str
    address: str
    option: str | None = None
    """on-demand or spot; None off EC2."""


class ImdsUnavailable(Exception):
    """IMDS does not answer, or not as IMDS does."""


class ImdsClient:
    """IMDSv2 with one token, renewed before it expires and when it is refused. `clock` is monotonic."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        *,
        clock: Callable[[], float],
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._session = session
        self._base = endpoint.rstrip("/")
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._token = ""
        self._renew_at = float("-inf")
        self._renewing = asyncio.Lock()

    async def get(self, path: str) -> str | None:
        """The body at /latest/meta-data/`path`, None where there is none. Raises ImdsUnavailable."""
        problem: Exception | None = None
        for _ in range(_TRIES):
            try:
                return await self._get(path)
            except (aiohttp.ClientError, TimeoutError, OSError, ImdsUnavailable) as exc:
                problem = exc
        raise ImdsUnavailable(
            f"IMDS at {self._base} gave no {path} in {_TRIES} tries: {problem or 'timed out'}"
        ) from problem

    async def identity(self) -> Identity:
        """Raises ImdsUnavailable."""
        instance_id, address = await self.get("instance-id"), await self.get("local-ipv4")
        if not instance_id or not address:
            raise ImdsUnavailable(f"IMDS at {self._base} names no instance")
        option = await self.get("instance-life-cycle")
        return Identity(instance_id.strip(), address.strip(), option and option.strip())

    async def _get(self, path: str) -> str | None:
        headers = {"X-aws-ec2-metadata-token": await self._current_token()}
        url = f"{self._base}/latest/meta-data/{path}"
        async with self._session.get(
            url, headers=headers, timeout=self._timeout, allow_redirects=False
        ) as response:
            if response.status == 404:
                return None
            if response.status == 401:
                self._renew_at = float("-inf")
            if response.status != 200:
                raise ImdsUnavailable(f"{path}: status {response.status}")
            return await _read(response)

    async def _current_token(self) -> str:
        async with self._renewing:
            if self._clock() >= self._renew_at:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        url = f"{self._base}/latest/api/token"
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
        async with self._session.put(url, headers=headers, timeout=self._timeout) as response:
            if response.status != 200:
                raise ImdsUnavailable(f"token: status {response.status}")
            token = (await _read(response)).strip()
        # It becomes a header of the next request.
        if not token or not token.isascii() or not token.isprintable():
            raise ImdsUnavailable("token: not a token")
        self._token = token
        self._renew_at = self._clock() + _TOKEN_TTL_S - _RENEW_EARLY_S


async def _read(response: aiohttp.ClientResponse) -> str:
    body = await response.content.read(_MAX_BODY)
    return body.decode("utf-8", "replace")


class ImdsWatcher:
    """Looks for notices every `poll_s` seconds and hands each, once, to `act`.

    `clock` gives unix seconds. A scheduled maintenance is handed on `lead_s` before it begins: weeks may
    lie between its announcement and the event.
    """

    def __init__(
        self,
        client: ImdsClient,
        act: Callable[[Notice], None],
        *,
        log: EventLog,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        poll_s: float,
        lead_s: float,
    ) -> None:
        self._client = client
        self._act = act
        self._log = log
        self._clock = clock
        self._sleep = sleep
        self._poll_s = poll_s
        self._lead_s = lead_s
        self._seen: set[Notice] = set()
        self._reachable = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._sleep(self._poll_s)

    async def look(self) -> None:
        """One round over every path. IMDS being away is logged when it begins and when it ends."""
        results = await asyncio.gather(*(self._find(path, parse) for path, parse in _PARSERS.items()))
        lost = [problem for problem in results if problem is not None]
        if lost and self._reachable:
            self._log.info("imds.unavailable", problem=lost[0])
        if not lost and not self._reachable:
            self._log.info("imds.available")
        self._reachable = not lost

    async def _find(self, path: str, parse: Callable[[str], Notice | None]) -> str | None:
        """Acts on the notice at `path`, if any; returns what was wrong with the answer."""
        try:
            body = await self._client.get(path)
        except ImdsUnavailable as exc:
            return str(exc)
        if body is None:
            return None
        try:
            notice = parse(body)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            return f"IMDS {path} is unreadable: {type(exc).__name__}"
        if notice is not None:
            self._hand_on(notice)
        return None

    def _hand_on(self, notice: Notice) -> None:
        if notice in self._seen or not is_due(notice, self._clock(), self._lead_s):
            return
        self._seen.add(notice)
        self._log.info("notice.seen", kind=notice.kind, deadline=notice.deadline, source=notice.source)
        self._act(notice)


def is_due(notice: Notice, now: float, lead_s: float) -> bool:
    """Whether to act on `notice` already."""
    return notice.kind != "maintenance" or notice.deadline is None or notice.deadline - now <= lead_s


def parse_spot(body: str) -> Notice | None:
    """spot/instance-action: {"action":"terminate","time":"2017-09-18T08:22:00Z"}."""
    return Notice("spot", _utc(json.loads(body)["time"]), "imds")


def parse_rebalance(body: str) -> Notice | None:
    """events/recommendations/rebalance: {"noticeTime":"2020-10-27T08:22:00Z"}; it sets no deadline."""
    _utc(json.loads(body)["noticeTime"])
    return Notice("rebalance", None, "imds")


def parse_lifecycle(body: str) -> Notice | None:
    """autoscaling/target-lifecycle-state: InService, Terminated, ..."""
    return Notice("scale-in", None, "imds") if body.strip() == "Terminated" else None


def parse_maintenance(body: str) -> Notice | None:
    """events/maintenance/scheduled: a list of events; the earliest active one counts."""
    events = json.loads(body)
    if not isinstance(events, list):
        raise TypeError("a list of events was expected")
    begins = [
        datetime.strptime(event["NotBefore"], "%d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC).timestamp()
        for event in events
        if event["State"] == "active"
    ]
    return Notice("maintenance", min(begins), "imds") if begins else None


def _utc(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


_PARSERS: dict[str, Callable[[str], Notice | None]] = {
    "spot/instance-action": parse_spot,
    "events/recommendations/rebalance": parse_rebalance,
    "autoscaling/target-lifecycle-state": parse_lifecycle,
    "events/maintenance/scheduled": parse_maintenance,
}
