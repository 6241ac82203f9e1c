"""The emulated AWS as one object: the moto server, the fleet's semantics, health, metadata and events."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from moto import settings
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.base_backend import BackendDict, backend_lock
from moto.core.model_instances import reset_model_data
from moto.ec2.responses import EC2Response
from moto.elbv2.responses import ELBV2Response
from moto.events.responses import EventsHandler
from moto.fis.responses import FISResponse

from fleet.rehearsal.cloud import (
    alarms,
    detach,
    events,
    experiments,
    groups,
    health,
    hooks,
    images,
    instances,
    lambdas,
    launching,
    log_metrics,
    log_streams,
    policies,
    refresh,
    routing,
    schedules,
    server,
    shortage,
    show,
    speed,
    targets,
    warmpool,
)
from fleet.rehearsal.cloud.errors import CloudError, CloudInUse, GroupUnknown, InstanceUnknown, NotSpot
from fleet.rehearsal.cloud.imds import MetadataServers
from fleet.rehearsal.cloud.loop import LoopThread
from fleet.rehearsal.cloud.patches import Patches, require_moto
from fleet.rehearsal.cloud.reconcile import reconcile
from fleet.rehearsal.cloud.records import Machine
from fleet.rehearsal.cloud.tracking import Decision
from fleet.rehearsal.cloud.views import (
    Clock,
    EventCallback,
    GroupView,
    InstanceListener,
    InstanceView,
    Metrics,
    NoMetrics,
    PurchaseOption,
    Target,
)
from fleet.rehearsal.cloud.world import World
from fleet.rehearsal.market import Market

_TICK_SECONDS = 0.1
_log = logging.getLogger(__name__)
_moto_taken = threading.Lock()  # moto's state, and so this lock, is one per process


class Cloud:
    """An AWS region on this machine, at `endpoint_url`, until it is closed.

    `time_scale` multiplies every duration of AWS (a spot notice lasts 120 s x time_scale). `clock` gives
    unix seconds. With `ticking=False` nothing happens by itself: call `tick()`. Raises MotoVersionRefused,
    CloudInUse, and CloudError when the port is taken or the scale not above 0.
    """

    def __init__(
        self,
        *,
        time_scale: float,
        seed: int,
        clock: Clock = time.time,
        listener: InstanceListener,
        port: int = 0,
        on_event: EventCallback = lambda _event: None,
        metrics: Metrics | None = None,
        ticking: bool = True,
    ) -> None:
        require_moto()
        if time_scale <= 0:
            raise CloudError(f"time_scale {time_scale} is not above 0", "0.1 makes a spot notice last 12 s")
        if not _moto_taken.acquire(blocking=False):
            raise CloudInUse("this process already runs an emulated cloud", "close it first")
        try:
            self._server = server.Server(port)
        except BaseException:
            _moto_taken.release()
            raise
        _reset_moto()
        self.endpoint_url = self._server.endpoint_url
        self.traffic = self._server.traffic
        self.market = Market(seed)
        self._world = World(clock, time_scale, self.market, listener, on_event, metrics or NoMetrics())
        self._loop = LoopThread("cloud-io")
        self._metadata = MetadataServers(self._loop, clock)
        self._prober = health.Prober(self._loop)
        self._wake, self._closing = threading.Event(), threading.Event()
        self._patches = Patches()
        self._install()
        self._ticker = threading.Thread(target=self._keep_ticking, name="cloud-tick", daemon=True)
        if ticking:
            self._ticker.start()

    def register_image(self, recipe: str, stack: str, channel: str) -> str:
        """Make an image and publish it; returns its id, which is also the channel parameter's value."""
        with self._world.lock:
            return images.register(self._world, recipe, stack, channel)

    def interrupt(self, instance_id: str, *, rebalance_first: bool = False) -> None:
        """Give a spot instance its notice now; it is taken away 120 s x time_scale later.

        Raises InstanceUnknown and NotSpot.
        """
        with self._world.lock:
            machine = self._spot(instance_id)
            if rebalance_first:
                instances.recommend_rebalance(self._world, machine)
            instances.give_notice(self._world, machine)
        self._changed()

    def recommend_rebalance(self, instance_id: str) -> None:
        """Say that a spot instance is at elevated risk; raises InstanceUnknown and NotSpot."""
        with self._world.lock:
            instances.recommend_rebalance(self._world, self._spot(instance_id))
        self._changed()

    def kill(self, instance_id: str) -> None:
        """The instance vanishes with no word: only health checks find out. Raises InstanceUnknown."""
        with self._world.lock:
            instances.vanish(self._world, self._running(instance_id))
        self._changed()

    def instances(self, *, terminated: bool = False) -> list[InstanceView]:
        """Every instance, oldest first; those that ended only on demand."""
        with self._world.lock:
            return [
                show.instance_view(self._world, machine)
                for machine in self._world.machines.values()
                if terminated or machine.terminated_at is None
            ]

    def groups(self) -> list[GroupView]:
        with self._world.lock:
            return [show.group_view(group) for group in self._world.groups.values()]

    def set_desired(self, group: str, desired: int) -> None:
        """As SetDesiredCapacity. Raises GroupUnknown, and AWS's ValidationError outside its bounds."""
        with self._world.lock:
            if group not in self._world.groups:
                raise GroupUnknown(
                    f"no Auto Scaling group is called {group}",
                    f"there are: {', '.join(self._world.groups) or 'none'}",
                )
            found = self._world.groups[group]
            groups.require_in_bounds(found, desired)
            groups.set_desired(
                self._world, found, desired, "a user request explicitly set group desired capacity"
            )
        self._changed()

    def decisions(self, group: str) -> list[Decision]:
        """What target tracking decided for the group, oldest first; a reason for no change once in a row.

        Raises GroupUnknown.
        """
        with self._world.lock:
            if group not in self._world.groups:
                raise GroupUnknown(f"no Auto Scaling group is called {group}", "`groups()` has all of them")
            return list(self._world.groups[group].decisions)

    def targets(self, target_group_arn: str) -> list[Target]:
        """The targets of a group, draining ones included; empty for a group that is not there."""
        with self._world.lock:
            return targets.views(self._world, target_group_arn)

    def use_metrics(self, metrics: Metrics) -> None:
        """What target tracking acts on from now on."""
        self._world.metrics = metrics

    def give_up_refreshes_after(self, seconds: float) -> None:
        """How long a refresh may come no further before it fails, in AWS's seconds: an hour by default."""
        self._world.refresh_patience = seconds

    def run_short(
        self,
        option: PurchaseOption = "spot",
        *,
        seconds: float,
        group: str | None = None,
        refusal: shortage.Refusal = "unfulfillable",
    ) -> float:
        """For so many of AWS's seconds the group, or every one, gets nothing of this option, each try failing
        as on AWS. Returns when that is over, in unix seconds.
        """
        with self._world.lock:
            return shortage.begin(self._world, option, group, seconds, refusal).until

    def end_shortages(self) -> None:
        """What `run_short` asked for is over now."""
        with self._world.lock:
            shortage.end(self._world)

    def tick(self) -> None:
        """Let everything happen that is due now; returns when the health checks sent have been answered."""
        for probe in self._step():
            probe.result()
        with self._world.lock:
            self._take_results()
        self._world.outbox.flush()

    def close(self) -> None:
        """End every thread, server and port; no callback comes afterwards. Closing twice is fine."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._world.outbox.close()
        self._wake.set()
        if self._ticker.is_alive() and self._ticker is not threading.current_thread():
            self._ticker.join()
        self._server.close()
        self._close_instances()
        self._prober.close()
        self._loop.close()
        self._patches.undo()
        _reset_moto()
        _moto_taken.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _install(self) -> None:
        """Fill moto's gaps; every change is undone by `close`."""
        world, patches = self._world, self._patches
        patches.set(settings, "load_iam_aws_managed_policies", lambda: True)
        for response in (AutoScalingResponse, EC2Response, ELBV2Response, EventsHandler, FISResponse):
            patches.wrap(response, "call_action", self._locked)
        instances.install(world, self._metadata, patches)
        targets.install(world, patches)
        events.install(patches)
        experiments.install(world, patches)
        groups.install(world, patches)
        launching.install(patches)
        hooks.install(world, patches)
        detach.install(world, patches)
        refresh.install(world, patches)
        policies.install(world, patches)
        schedules.install(world, patches)
        warmpool.install(world, patches)
        routing.install(patches)
        speed.install(patches)
        alarms.install(patches)
        log_metrics.install(patches)
        log_streams.install(patches)
        lambdas.install(patches)
        server.install(self._closing.is_set, patches)

    def _locked(self, original: Any) -> Any:
        def call_action(response: Any) -> Any:
            with self._world.lock:
                answer = original(response)
            self._changed()
            return answer

        return call_action

    def _changed(self) -> None:
        self._world.outbox.flush()
        self._wake.set()

    def _keep_ticking(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()
            try:
                self._step()
            except Exception:  # noqa: BLE001  one bad look must not stop the clock of the whole cloud
                _log.exception("a tick of the emulated cloud failed")

    def _step(self) -> list[Future[None]]:
        world = self._world
        with world.lock:
            self._take_results()
            instances.advance(world, self._metadata)
            targets.expire(world)
            log_metrics.judge(world)
            for group in list(world.groups.values()):
                reconcile(world, group)
            probes = health.due(world)
        world.outbox.flush()
        return self._prober.send(probes)

    def _take_results(self) -> None:
        for result in self._prober.take():
            health.record_result(self._world, result)

    def _close_instances(self) -> None:
        self._metadata.close_all()
        for machine in self._world.machines.values():
            machine.lease.release()

    def _running(self, instance_id: str) -> Machine:
        machine = self._world.machines.get(instance_id)
        if machine is None or machine.running_at is None or machine.terminated_at is not None:
            raise InstanceUnknown(
                f"no instance {instance_id} runs", "name one that `instances()` shows as running"
            )
        return machine

    def _spot(self, instance_id: str) -> Machine:
        machine = self._running(instance_id)
        if machine.option != "spot":
            raise NotSpot(
                f"{instance_id} is an on-demand instance: only spot instances are interrupted",
                "choose a spot instance, or kill this one",
            )
        return machine


def _reset_moto() -> None:
    """Forget every backend. Moto's own reset first makes each anew, images and all, which takes long."""
    with backend_lock:
        known: list[Any] = BackendDict._instances  # type: ignore[misc]
        for backends in known:
            backends.clear()
        known.clear()
    reset_model_data()
