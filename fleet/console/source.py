"""A stack as the console reads and changes it: the on-call package's loaders, and lost requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from fleet.console.losses import Counters, Gateway, Losses, ask
from fleet.console.picture import Price
from fleet.control.node import ADMIN_PORT
from fleet.oncall.aws import Aws
from fleet.oncall.drains import request_drain, request_undrain
from fleet.oncall.history import NoticeEvent, read_history
from fleet.oncall.prices import hourly_price
from fleet.oncall.snapshot import NodeView, Snapshot, load_snapshot
from fleet.stack.observability_names import FAILED
from fleet.stack.scaling import NAMESPACE, STACK_DIMENSION, TIER_DIMENSION

_HOUR_S = 3600
# Nodes put their metrics once a minute: asking more often tells nothing new.
_CLOUDWATCH_EVERY_S = 60.0
# Where no gateway can be reached, as from most laptops, each look costs its time-out.
_UNREACHED_EVERY_S = 60.0


class StackSource:
    """Every method may raise GoldenfleetError. A thread may read while another drains."""

    def __init__(self, aws: Aws, clock: Callable[[], float] = time.time) -> None:
        self._aws, self._clock = aws, clock
        self._counters = Counters(clock())
        self._hour: int | None = None
        self._hour_due = self._gateways_due = 0.0

    def snapshot(self) -> Snapshot:
        return load_snapshot(self._aws)

    def history(self, since: float) -> Iterable[NoticeEvent]:
        return read_history(self._aws, since)

    def losses(self, snapshot: Snapshot) -> Losses:
        now = self._clock()
        gateways = [_gateway(node) for node in gateways_of(snapshot) if node.address]
        failed: dict[str, float] = {}
        if now >= self._gateways_due:
            failed = ask(gateways, ADMIN_PORT)
            self._gateways_due = 0.0 if failed or not gateways else now + _UNREACHED_EVERY_S
        count = self._counters.look(gateways, failed)
        if now >= self._hour_due:
            self._hour = self._lost_by_cloudwatch(snapshot, now)
            self._hour_due = now + _CLOUDWATCH_EVERY_S
        return Losses(self._counters.since, count, len(gateways), len(failed), self._hour)

    def _lost_by_cloudwatch(self, snapshot: Snapshot, now: float) -> int:
        tiers = [tier.name for tier in snapshot.tiers if tier.role == "gateway"]
        return round(sum(self._sum(tier, now) for tier in tiers))

    def _sum(self, tier: str, now: float) -> float:
        found = self._aws.call(
            "cloudwatch.get_metric_statistics",
            Namespace=NAMESPACE,
            MetricName=FAILED,
            Dimensions=[
                {"Name": STACK_DIMENSION, "Value": self._aws.stack},
                {"Name": TIER_DIMENSION, "Value": tier},
            ],
            StartTime=datetime.fromtimestamp(now - _HOUR_S, UTC),
            EndTime=datetime.fromtimestamp(now, UTC),
            Period=60,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    def drain(self, instance_id: str, reason: str, deadline_s: float) -> None:
        request_drain(self._aws, [instance_id], reason, deadline_s)

    def undrain(self, instance_id: str) -> None:
        request_undrain(self._aws, [instance_id], "undrained from the console")


def gateways_of(snapshot: Snapshot) -> list[NodeView]:
    tiers = {tier.name for tier in snapshot.tiers if tier.role == "gateway"}
    return [node for node in snapshot.nodes if node.tier in tiers]


def _gateway(node: NodeView) -> Gateway:
    return Gateway(node.instance_id, node.address, node.launched_at)


def on_demand(region: str) -> Price:
    return lambda instance_type: hourly_price(region, instance_type, "on-demand")
