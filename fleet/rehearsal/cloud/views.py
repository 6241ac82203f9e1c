"""What the emulated cloud shows of itself: plain values, safe to keep, never moto's own objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

PurchaseOption = Literal["on-demand", "spot"]
InstanceState = Literal["pending", "running", "stopped", "shutting-down", "terminated"]
TargetState = Literal["initial", "healthy", "unhealthy", "draining", "unused"]
Clock = Callable[[], float]


@dataclass(frozen=True)
class InstanceView:
    """One instance as it is now. Times are unix seconds."""

    instance_id: str
    tier: str | None  # tag goldenfleet:tier
    address: str  # loopback, 127.0.x.y
    availability_zone: str
    instance_type: str
    purchase_option: PurchaseOption
    state: InstanceState
    lifecycle_state: str | None  # Auto Scaling's, such as InService; Detached; None outside any group
    target_state: TargetState | None  # None when no target group knows it
    launched_at: float
    running_at: float | None
    terminated_at: float | None
    image_id: str
    user_data: str  # decoded
    group: str | None  # the Auto Scaling group it is, or was, a member of
    subnet_id: str
    tags: Mapping[str, str]
    metadata_endpoint: str  # http://127.0.x.y:1338
    hourly_price: float  # US dollars
    noticed_at: float | None  # when a spot interruption notice was given
    taken_at: float | None  # when that notice says the instance is taken away


@dataclass(frozen=True)
class GroupView:
    """One Auto Scaling group as it is now."""

    name: str
    tier: str | None
    minimum: int
    maximum: int
    desired: int
    in_service: int
    on_demand: int
    spot: int
    instance_ids: tuple[str, ...]
    target_group_arns: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One registered target. A draining one is still routed until the balancer has caught up."""

    instance_id: str
    address: str
    port: int
    state: TargetState
    reason: str | None  # AWS's reason code, such as Target.ResponseCodeMismatch
    routed: bool  # the balancer sends new requests to it


@dataclass(frozen=True)
class CloudEvent:
    """One change of state: `kind` is a noun and what became of it, such as `instance.running`."""

    at: float  # unix seconds
    kind: str
    instance_id: str | None = None
    group: str | None = None
    detail: Mapping[str, str] = field(default_factory=dict)


class InstanceListener(Protocol):
    """Told of instances that come and go, never while the cloud holds its lock.

    Calls come one at a time, in order; they may call back into the cloud.
    """

    def launched(self, instance: InstanceView) -> None:
        """The instance runs: its metadata answers, its address is its own."""

    def killed(self, instance_id: str) -> None:
        """The instance is gone: whatever ran on it must end now."""


class Metrics(Protocol):
    """What target tracking acts on; None means missing data, which blocks scaling as on AWS."""

    @property
    def with_published(self) -> bool:
        """Whether it also acts on what PutMetricData was given."""

    def cpu(self, instance_id: str) -> float | None:
        """CPU of an instance, in percent."""

    def requests_per_target(self, target_group_arn: str) -> float | None:
        """Requests per target in the last minute of AWS's time (ALBRequestCountPerTarget)."""


class NoMetrics:
    """No data: nothing scales."""

    with_published = False

    def cpu(self, instance_id: str) -> float | None:  # noqa: ARG002
        return None

    def requests_per_target(self, target_group_arn: str) -> float | None:  # noqa: ARG002
        return None


EventCallback = Callable[[CloudEvent], None]
