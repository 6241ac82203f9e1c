"""What the emulated cloud remembers of instances, targets, members and groups beside moto's models."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from moto.autoscaling.models import FakeAutoScalingGroup, LifecycleHook
from moto.autoscaling.models import InstanceState as MotoMember
from moto.ec2.models.instances import Instance

from fleet.rehearsal.cloud.addresses import Lease
from fleet.rehearsal.cloud.pace import DEFAULT_CHECKPOINT_DELAY, Healthy
from fleet.rehearsal.cloud.tracking import Breach, Decision
from fleet.rehearsal.cloud.views import PurchaseOption, TargetState
from fleet.rehearsal.market import Pool


@dataclass
class Machine:
    """One instance of EC2. Times are unix seconds."""

    instance: Instance
    lease: Lease
    pool: Pool
    option: PurchaseOption
    hourly_price: float
    launched_at: float
    runs_at: float
    role: str | None = None
    group: str | None = None
    running_at: float | None = None
    killed_at: float | None = None
    terminated_at: float | None = None
    rebalance_at: float | None = None
    noticed_at: float | None = None
    taken_at: float | None = None
    target_lifecycle_state: str | None = None
    lifecycle_state: str | None = None  # of an instance that left its group
    stopped_at: float | None = None
    stops: bool = False  # as soon as somebody looks

    @property
    def id(self) -> str:
        return str(self.instance.id)

    @property
    def is_alive(self) -> bool:
        """Running, and not secretly dead."""
        return self.running_at is not None and self.terminated_at is None and self.killed_at is None


@dataclass
class TargetRecord:
    """One target of one target group, as its health checks see it."""

    instance_id: str
    port: int
    state: TargetState
    reason: str | None = None
    description: str | None = None
    passes: int = 0
    failures: int = 0
    next_probe_at: float = 0.0
    probing: bool = False
    was_routed: bool = False  # when it was deregistered
    deregistered_at: float | None = None
    gone_at: float | None = None  # when draining is over


@dataclass
class HookWait:
    """One lifecycle action that waits for an answer."""

    hook: LifecycleHook
    token: str
    deadline: float
    last_deadline: float  # AWS ends a wait after 100 heartbeats, however often it is renewed
    answer: str | None = None


@dataclass
class Activity:
    """One scaling activity; attributes are named as moto's serializer reads them."""

    activity_id: str
    auto_scaling_group_name: str
    auto_scaling_group_arn: str
    description: str
    cause: str
    start_time: Any
    status_code: str
    progress: int
    details: str
    end_time: Any = None
    status_message: str | None = None


Leaving = Literal["rebalance", "refresh", "split"]


@dataclass
class Member:
    """One member of an Auto Scaling group; `state` is what moto lists."""

    state: MotoMember
    machine: Machine
    template_version: str | None
    activity: Activity | None
    waits: dict[str, HookWait] = field(default_factory=dict)
    in_service_at: float | None = None
    leaving: Leaving | None = None  # serves until its replacement does
    unhealthy_cause: str | None = None
    draining_until: float = 0.0
    weight: int = 1  # units of capacity
    scaled_in: bool = False  # by a smaller desired capacity, not for a replacement
    route: tuple[str, str] | None = None  # where it comes from and goes to, where a warm pool is one of them

    @property
    def phase(self) -> str:
        return str(self.state.lifecycle_state)

    @property
    def is_pending(self) -> bool:
        return self.phase.startswith("Pending")

    @property
    def is_terminating(self) -> bool:
        return self.phase.startswith("Terminating")

    @property
    def in_service(self) -> bool:
        return self.phase == "InService"


@dataclass
class Rollback:
    """What a refresh that goes back remembers of how far it had come."""

    reason: str
    started_at: float
    percent: int
    left: int


@dataclass
class Refresh:
    """One instance refresh."""

    refresh_id: str
    started_at: float
    healthy: Healthy
    warmup_seconds: float
    preferences: dict[str, Any]
    progressed_at: float
    configured: dict[str, Any]
    """Attributes of moto's group as the configuration has them; the group takes them over in the end."""
    before: set[str]
    """Members when it began."""
    configuration: dict[str, Any] | None = None
    to_replace: set[str] = field(default_factory=set)
    total: int = 0
    passed: int = 0  # checkpoints
    settled: int = 0
    percent: int = 0
    waits_until: float = 0.0
    status: str = "Pending"
    reason: str | None = None
    rollback: Rollback | None = None
    ended_at: float | None = None

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(int(percent) for percent in self.preferences.get("CheckpointPercentages") or (100,))

    @property
    def checkpoint_delay(self) -> int:
        """Seconds."""
        given = self.preferences.get("CheckpointDelay")
        return DEFAULT_CHECKPOINT_DELAY if given is None else int(given)

    @property
    def protected(self) -> str:
        """What becomes of members that are protected from scale-in."""
        return str(self.preferences.get("ScaleInProtectedInstances") or "Wait")


RUNNING = ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress")
"""Statuses of a refresh that is not over."""


@dataclass
class Group:
    """One Auto Scaling group; `moto` holds what moto describes."""

    moto: FakeAutoScalingGroup
    members: dict[str, Member] = field(default_factory=dict)
    warm: dict[str, Member] = field(default_factory=dict)  # waiting in the warm pool
    activities: deque[Activity] = field(default_factory=lambda: deque(maxlen=500))
    refreshes: list[Refresh] = field(default_factory=list)
    retry_at: dict[str, float] = field(default_factory=dict)  # by purchase option, after a failed launch
    breaches: dict[str, Breach] = field(default_factory=dict)  # by policy name
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=500))
    cause: str = "a user request"  # why the desired capacity is what it is
    last_desired: int = 0

    @property
    def name(self) -> str:
        return str(self.moto.name)

    @property
    def desired(self) -> int:
        return int(self.moto.desired_capacity or 0)

    def refresh(self) -> Refresh | None:
        """The refresh that is going on."""
        return next((r for r in self.refreshes if r.status in RUNNING), None)

    @property
    def launching(self) -> FakeAutoScalingGroup:
        """The group as its next instance is launched: a refresh saves its configuration only in the end."""
        refresh = self.refresh()
        if refresh is None or refresh.rollback is not None or not refresh.configured:
            return self.moto
        shown = copy.copy(self.moto)
        vars(shown).update(refresh.configured)
        return shown
