"""Requests in flight, published to CloudWatch as what a tier is scaled by.

Every node publishes its own, so the average over a tier is requests in flight per node: it falls as nodes are
added, as target tracking wants it, and a node that is gone is in no average. Gateways cannot publish it for
their nodes, for each knows only what it sends itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from prometheus_client import Counter

from server.cloudwatch import CloudWatch
from server.drain import EventLog

# The policy of a tier and the permission of its role name the same, see fleet/stack.
NAMESPACE = "Goldenfleet"
METRIC = "RequestsInFlight"
STACK_DIMENSION = "Stack"
TIER_DIMENSION = "Tier"
GROUP_DIMENSION = "AutoScalingGroupName"

JITTER = 0.1
# CloudWatch's two resolutions, in seconds.
_STANDARD_S, _HIGH_S = 60, 1


@dataclass(frozen=True)
class Series:
    """Whose metric it is."""

    stack: str
    tier: str
    group: str | None = None

    @property
    def dimensions(self) -> list[list[dict[str, str]]]:
        """Stack and tier, and once more with the group where it is known: no average goes across series."""
        tier = [{"Name": STACK_DIMENSION, "Value": self.stack}, {"Name": TIER_DIMENSION, "Value": self.tier}]
        found = [tier]
        if self.group is not None:
            found.append([*tier, {"Name": GROUP_DIMENSION, "Value": self.group}])
        return found


class InFlightMeter:
    """What was in flight since the last reading, sampled: one moment would miss all that came and went."""

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self._in_flight = in_flight
        self._samples: list[int] = []

    def sample(self) -> None:
        self._samples.append(self._in_flight())

    def read(self) -> float:
        """The mean; starts anew."""
        samples, self._samples = self._samples or [self._in_flight()], []
        return sum(samples) / len(samples)


def metric_data(series: Series, mean: float, at: datetime, interval_s: float) -> list[dict[str, Any]]:
    """MetricData of PutMetricData: one value a node and interval, so that all nodes weigh the same."""
    return [
        {
            "MetricName": METRIC,
            "Dimensions": dimensions,
            "Timestamp": at,
            "Value": mean,
            "Unit": "Count",
            "StorageResolution": _STANDARD_S if interval_s >= _STANDARD_S else _HIGH_S,
        }
        for dimensions in series.dimensions
    ]


class ScalingMetric:
    """Publishes until cancelled. What fails is logged and left out: the next interval has news of its own."""

    def __init__(
        self,
        series: Series,
        in_flight: Callable[[], int],
        *,
        region: str | None,
        interval_s: float,
        puts: Counter,
        log: EventLog,
        rng: Random,
        wall_clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._series = series
        self._meter = InFlightMeter(in_flight)
        self._cloudwatch = CloudWatch(region)
        self._interval_s = interval_s
        self._puts = puts
        self._log = log
        self._rng = rng
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._failing = False

    async def run(self) -> None:
        while True:
            await self._measure(self._interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER))
            at = datetime.fromtimestamp(self._wall_clock(), UTC)
            data = metric_data(self._series, self._meter.read(), at, self._interval_s)
            self._published(await asyncio.to_thread(self._cloudwatch.put, NAMESPACE, data))

    async def _measure(self, seconds: float) -> None:
        """A sample a second, at least ten in all."""
        samples = max(10, int(seconds))
        for _ in range(samples):
            await self._sleep(seconds / samples)
            self._meter.sample()

    def _published(self, problem: str | None) -> None:
        self._puts.labels(result="failed" if problem else "sent").inc()
        if (problem is not None) is self._failing:
            return
        self._failing = problem is not None
        self._log.info("scaling_metric.failing" if problem else "scaling_metric.sent", problem=problem)
