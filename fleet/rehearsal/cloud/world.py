"""What the parts of the emulated cloud share. Whoever reads or changes it holds `lock`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moto.autoscaling.models import AutoScalingBackend, autoscaling_backends
from moto.ec2.models import EC2Backend, ec2_backends
from moto.elbv2.models import ELBv2Backend, elbv2_backends

from fleet.rehearsal.cloud.addresses import Addresses
from fleet.rehearsal.cloud.outbox import Outbox
from fleet.rehearsal.cloud.records import Group, Machine, TargetRecord
from fleet.rehearsal.cloud.views import Clock, CloudEvent, EventCallback, InstanceListener, Metrics
from fleet.rehearsal.market import Market

if TYPE_CHECKING:
    from fleet.rehearsal.cloud.shortage import Shortage

ACCOUNT = "123456789012"
REGION = "us-east-1"
REFRESH_PATIENCE_SECONDS = 3600.0  # AWS tries for an hour to bring a refresh on


@dataclass
class World:
    """The state that moto does not keep, next to the backends where moto keeps the rest."""

    clock: Clock
    time_scale: float
    market: Market
    listener: InstanceListener
    on_event: EventCallback
    metrics: Metrics
    refresh_patience: float = REFRESH_PATIENCE_SECONDS
    lock: threading.RLock = field(default_factory=threading.RLock)
    outbox: Outbox = field(default_factory=Outbox)
    addresses: Addresses = field(default_factory=Addresses)
    shortages: list[Shortage] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    targets: dict[str, dict[str, TargetRecord]] = field(default_factory=dict)  # by group ARN, then id

    @property
    def autoscaling(self) -> AutoScalingBackend:
        return autoscaling_backends[ACCOUNT][REGION]

    @property
    def ec2(self) -> EC2Backend:
        return ec2_backends[ACCOUNT][REGION]

    @property
    def elbv2(self) -> ELBv2Backend:
        return elbv2_backends[ACCOUNT][REGION]

    def scaled(self, seconds: float) -> float:
        """Seconds of AWS in seconds of the rehearsal."""
        return seconds * self.time_scale

    def now_text(self) -> str:
        return time_text(self.clock())

    def tell(
        self, kind: str, instance_id: str | None = None, group: str | None = None, **detail: str
    ) -> None:
        """Report a change of state once the lock is released."""
        event = CloudEvent(self.clock(), kind, instance_id, group, detail)
        self.outbox.add(lambda: self.on_event(event))


def time_text(at: float) -> str:
    """AWS's form of a time, in UTC and whole seconds (cut, so a deadline is never read too late)."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(at: float) -> datetime:
    """The naive UTC datetime that moto's serializers expect."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
