"""The emulated AWS as one object: the moto server, the fleet's semantics, health, metadata and events."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.server import ThreadedMotoServer

from fleet.rehearsal.cloud.patches import Patches, require_moto
from fleet.rehearsal.cloud.views import (
    Clock,
    EventCallback,
    GroupView,
    InstanceListener,
    InstanceView,
    Metrics,
    NoMetrics,
    Target,
)


class Cloud:
    """An AWS region on this machine, at `endpoint_url`, until it is closed.

    `time_scale` multiplies every duration of AWS (a spot notice lasts 120 s x time_scale). `clock` gives
    unix seconds. With `ticking=False` nothing happens by itself: call `tick()`.
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
        self.time_scale, self.seed, self.clock, self.listener = time_scale, seed, clock, listener
        self.on_event, self.metrics, self.ticking = on_event, metrics or NoMetrics(), ticking
        self._patches = Patches()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server.start()
        self.endpoint_url = "http://{}:{}".format(*self._server.get_host_and_port())

    def register_image(self, recipe: str, stack: str, channel: str) -> str:
        """Make an image and publish it: returns its id, which is also the value of the channel's parameter."""
        raise NotImplementedError

    def interrupt(self, instance_id: str, *, rebalance_first: bool = False) -> None:
        """Give a spot instance its notice now; it is taken away 120 s x time_scale later."""
        raise NotImplementedError

    def recommend_rebalance(self, instance_id: str) -> None:
        """Say that a spot instance is at elevated risk of interruption."""
        raise NotImplementedError

    def kill(self, instance_id: str) -> None:
        """The instance vanishes with no word: only health checks find out."""
        raise NotImplementedError

    def instances(self) -> list[InstanceView]:
        """Every instance that is not terminated, oldest first."""
        return []

    def groups(self) -> list[GroupView]:
        return []

    def set_desired(self, group: str, desired: int) -> None:
        raise NotImplementedError

    def targets(self, target_group_arn: str) -> list[Target]:
        return []

    def use_metrics(self, metrics: Metrics) -> None:
        """What target tracking acts on from now on."""
        self.metrics = metrics

    def tick(self) -> None:
        """Let everything happen that is due now, health checks included."""

    def close(self) -> None:
        """End every thread, server and port; no callback comes afterwards."""
        self._server.stop()
        self._patches.undo()
        BackendDict.reset()
        reset_model_data()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
