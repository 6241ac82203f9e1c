"""What dashboards and alarms need of a node, published to CloudWatch: a node that is gone cannot be scraped.

Counts are what came since the last put, so that a tier's Sum is the tier's; all names are also in
fleet/stack, for dashboards and alarms.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from prometheus_client import Counter
from prometheus_client.registry import Collector

from server.cloudwatch import CloudWatch
from server.drain import EventLog
from server.scaling_metric import JITTER, NAMESPACE, Series

NODE_MINUTES = "NodeMinutes"
DRAINING = "NodesDraining"
NOTICES = "Notices"
FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105  no secret
OK, FAILED, REFUSED = "RequestsOk", "RequestsFailed", "RequestsRefused"
RETRIED, RESUMED = "RequestsRetried", "RequestsResumed"
OPTION_DIMENSION = "PurchaseOption"

INTERVAL_S = 60.0
DRAINING_INTERVAL_S = 10.0
"""A node that drains has at most two minutes left to tell."""

_RESULTS = {"ok": OK, "failed": FAILED, "refused": REFUSED}
_COUNTERS = {
    "goldenfleet_requests_retried_total": RETRIED,
    "goldenfleet_requests_resumed_total": RESUMED,
    "goldenfleet_notices_total": NOTICES,
}
_SERVED = "goldenfleet_tenant_requests_total"
_FIRST_TOKEN_BUCKETS = "goldenfleet_time_to_first_token_seconds_bucket"  # noqa: S105  no secret
# Clients are the gateways'; of a model node it matters that it is there, and whether it goes.
_OF_NODES = (NOTICES,)


@dataclass(frozen=True)
class Reading:
    """Totals since the process began. `first_token`: bucket's upper bound in seconds -> streams in it.

    `minutes`: for how long it has been there.
    """

    minutes: float = 0.0
    counts: Mapping[str, float] = field(default_factory=dict)
    first_token: Mapping[float, float] = field(default_factory=dict)


def read(collectors: Iterable[Collector], minutes: float) -> Reading:
    """What the process has counted so far."""
    counts: dict[str, float] = {}
    upto: dict[float, float] = {}
    for family in (family for collector in collectors for family in collector.collect()):
        for sample in family.samples:
            if sample.name == _FIRST_TOKEN_BUCKETS:
                bound = float(sample.labels["le"])
                upto[bound] = upto.get(bound, 0.0) + sample.value
            elif name := _count_of(sample.name, sample.labels):
                counts[name] = counts.get(name, 0.0) + sample.value
    return Reading(minutes, counts, _apart(upto))


def _count_of(name: str, labels: Mapping[str, str]) -> str | None:
    return _RESULTS.get(labels["result"]) if name == _SERVED else _COUNTERS.get(name)


def _apart(upto: Mapping[float, float]) -> dict[float, float]:
    """Prometheus counts each bucket with all below it. The last has no bound, and takes the one before."""
    apart: dict[float, float] = {}
    below, last = 0.0, 0.0
    for bound in sorted(upto):
        last = last if math.isinf(bound) else bound
        apart[last] = apart.get(last, 0.0) + upto[bound] - below
        below = upto[bound]
    return apart


@dataclass(frozen=True)
class NodeState:
    """What holds at the time of a put. `option` is on-demand or spot, None where nobody says."""

    role: str
    option: str | None
    draining: bool


def metric_data(
    series: Series, state: NodeState, before: Reading, now: Reading, at: datetime
) -> list[dict[str, Any]]:
    """MetricData of PutMetricData for what happened between two readings."""
    dimensions = series.dimensions[0]
    names = list(_OF_NODES) if state.role == "model" else [*_RESULTS.values(), *_COUNTERS.values()]
    data = [
        {"MetricName": name, "Value": now.counts.get(name, 0.0) - before.counts.get(name, 0.0)}
        for name in names
    ]
    data.append({"MetricName": DRAINING, "Value": float(state.draining)})
    common = {"Timestamp": at, "Dimensions": dimensions, "Unit": "Count"}
    result = [{**common, **datum} for datum in data]
    if state.option is not None:
        option = {"Name": OPTION_DIMENSION, "Value": state.option}
        there = {"MetricName": NODE_MINUTES, "Value": now.minutes - before.minutes}
        result.append({**common, **there, "Dimensions": [*dimensions, option]})
    return [*result, *_first_tokens(state, before, now, {**common, "Unit": "Seconds"})]


def _first_tokens(
    state: NodeState, before: Reading, now: Reading, common: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """As a distribution, of which CloudWatch makes percentiles; each stream counts as its bucket's bound."""
    came = {bound: count - before.first_token.get(bound, 0.0) for bound, count in now.first_token.items()}
    values = {bound: count for bound, count in came.items() if count > 0}
    if state.role == "model" or not values:
        return []
    return [{**common, "MetricName": FIRST_TOKEN, "Values": list(values), "Counts": list(values.values())}]


class NodeMetrics:
    """Publishes until cancelled: every minute, and every ten seconds while the node drains."""

    def __init__(
        self,
        series: Series,
        collectors: Iterable[Collector],
        state: Callable[[], NodeState],
        *,
        region: str | None,
        puts: Counter,
        log: EventLog,
        rng: Random,
        wall_clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._series = series
        self._collectors = tuple(collectors)
        self._state = state
        self._cloudwatch = CloudWatch(region)
        self._puts = puts
        self._log = log
        self._rng = rng
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._failing = False

    async def run(self) -> None:
        told, began = Reading(), self._wall_clock()
        while True:
            at = self._wall_clock()
            now = read(self._collectors, (at - began) / 60)
            data = metric_data(self._series, self._state(), told, now, datetime.fromtimestamp(at, UTC))
            problem = await asyncio.to_thread(self._cloudwatch.put, NAMESPACE, data)
            self._published(problem)
            if problem is None:
                told = now
            await self._pause()

    async def _pause(self) -> None:
        waited = 0.0
        while waited < INTERVAL_S:
            seconds = DRAINING_INTERVAL_S * self._rng.uniform(1 - JITTER, 1 + JITTER)
            await self._sleep(seconds)
            waited += seconds
            if self._state().draining:
                return

    def _published(self, problem: str | None) -> None:
        self._puts.labels(result="failed" if problem else "sent").inc()
        if (problem is not None) is self._failing:
            return
        self._failing = problem is not None
        self._log.info("node_metrics.failing" if problem else "node_metrics.sent", problem=problem)
