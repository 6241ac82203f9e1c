"""What target tracking acts on in a rehearsal: CPU of the nodes' processes, requests of the balancer."""

from __future__ import annotations

import time
from collections.abc import Callable

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
    """The cloud's Metrics.

    A node's full CPU is one core of this machine, which is all that the embedded engine can use.
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
        self._cpu: dict[str, Rate] = {}
        self._requests: dict[str, Rate] = {}

    def average_cpu(self, group: str) -> float | None:
        """Percent of the last second or more; None without two looks at any node of the group."""
        members = next((g.instance_ids for g in self._cloud.groups() if g.name == group), ())
        now, used = self._clock(), self._nodes.cpu_seconds()
        rates = [self._cpu.setdefault(i, Rate()).look(used[i], now) for i in members if i in used]
        known = [rate for rate in rates if rate is not None]
        return 100 * sum(known) / len(known) if known else None

    def requests_per_target(self, target_group_arn: str) -> float | None:
        """In one minute of AWS's time; None for a group that no public listener sends to."""
        total = self._balancer.requests(target_group_arn)
        healthy = sum(target.state == "healthy" for target in self._cloud.targets(target_group_arn))
        if total is None or not healthy:
            return None
        rate = self._requests.setdefault(target_group_arn, Rate()).look(total, self._clock())
        return None if rate is None else rate * self._aws_minute / healthy
