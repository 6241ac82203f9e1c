"""What target tracking acts on in a rehearsal: how busy nodes are, and the requests of the balancer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from fleet.rehearsal.balancer import Balancer
from fleet.rehearsal.cloud import Cloud
from fleet.rehearsal.nodes import Nodes

_MINUTE = 60.0


class Rate:
    """How fast a counter grows, a second, between one look and the next that is far enough from it."""

    def __init__(self, least_s: float = 1.0) -> None:
        self._least_s = least_s
        self._before: tuple[float, float] | None = None
        self._rate: float | None = None

    def look(self, value: float, now: float) -> float | None:
        """The rate as of now; None until two looks were `least_s` apart."""
        if self._before is None:
            self._before = now, value
        elif now - self._before[0] >= self._least_s:
            self._rate = (value - self._before[1]) / (now - self._before[0])
            self._before = now, value
        return self._rate


class FleetMetrics:
    """The cloud's Metrics. `measure` looks, several times a second or rarer; the cloud is told the last look.

    A node's full CPU is one core, which is all that the embedded engine can use. It counts as used while the
    node waits for one of this machine's, too: an instance does not share its own.
    """

    def __init__(
        self,
        cloud: Cloud,
        nodes: Nodes,
        balancer: Balancer,
        time_scale: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._nodes = nodes
        self._balancer = balancer
        self._aws_minute = _MINUTE * time_scale
        self._clock = clock
        self._rates: dict[str, Rate] = {}
        self._values: Mapping[str, float] = {}

    with_published = True

    def cpu(self, instance_id: str) -> float | None:
        """Percent, over a minute of AWS's time; None before that is over."""
        return self._values.get(instance_id)

    def requests_per_target(self, target_group_arn: str) -> float | None:
        """In one minute of AWS's time; None for a group that no public listener sends to."""
        return self._values.get(target_group_arn)

    def measure(self) -> None:
        now, values = self._clock(), {}
        for instance_id, busy in self._nodes.busy_seconds().items():
            rate = self._rate(instance_id, busy, now)
            if rate is not None:
                values[instance_id] = min(100.0, 100 * rate)
        for arn, total in self._balancer.requests().items():
            healthy = sum(target.state == "healthy" for target in self._cloud.targets(arn))
            rate = self._rate(arn, total, now)
            if rate is not None and healthy:
                values[arn] = rate * self._aws_minute / healthy
        self._values = values

    def _rate(self, name: str, value: float, now: float) -> float | None:
        """Over a minute of AWS's time, which is what a point of a metric stands for."""
        return self._rates.setdefault(name, Rate(self._aws_minute)).look(value, now)
