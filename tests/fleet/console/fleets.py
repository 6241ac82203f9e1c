"""Fleets in memory, in the words of the on-call package, and a console that shows one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any

from fleet.console.app import Console
from fleet.console.feed import Feed
from fleet.console.guard import Secrets
from fleet.console.losses import Losses
from fleet.console.picture import picture
from fleet.console.serve import Server, bound, url
from fleet.errors import GoldenfleetError
from fleet.oncall.history import NoticeEvent
from fleet.oncall.snapshot import NodeView, Snapshot, TierView

PRICES = {"c7i.large": 0.0893, "g6.xlarge": 0.8048}


def tier(name: str = "model", **fields: Any) -> TierView:
    shape: dict[str, Any] = {
        "name": name,
        "role": "gateway" if name == "gateway" else "model",
        "group": f"gf-prod-{name}-1a2b3c4",
        "min": 2,
        "desired": 4,
        "max": 10,
        "in_service": 4,
        "pending": 0,
        "on_demand_base": 1,
        "image_id": "ami-0f1e2d3c4b5a69788",
        **fields,
    }
    return TierView(**shape)


def node(number: int, tier: str = "model", **fields: Any) -> NodeView:
    spot = number % 3 != 0
    kind = "c7i.large" if tier == "gateway" else "g6.xlarge"
    shape: dict[str, Any] = {
        "instance_id": f"i-{sha256(str(number).encode()).hexdigest()[:17]}",
        "tier": tier,
        "address": f"10.0.{number // 250}.{number % 250 + 4}",
        "purchase_option": "spot" if spot else "on-demand",
        "instance_type": kind,
        "availability_zone": f"us-east-1{'abc'[number % 3]}",
        "launched_at": time.time() - 3600.0 * (number + 1),
        "lifecycle_state": "InService",
        "target_state": "healthy",
        "phase": "serving",
        "in_flight": 7 + number % 5,
        "deadline": None,
        "reason": None,
        "image_id": "ami-0f1e2d3c4b5a69788",
        "hourly_price": round(PRICES[kind] * (0.38 if spot else 1.0), 4),
        **fields,
    }
    return NodeView(**shape)


def event(name: str, node: NodeView, at: float, **fields: Any) -> NoticeEvent:
    return NoticeEvent(at, name, node.instance_id, node.tier, fields)


class AwsDown(GoldenfleetError):
    """AWS does not answer."""


@dataclass
class Fleet:
    """A source and drains of the console, in memory. Times are unix seconds."""

    tiers: list[TierView] = field(default_factory=list)
    nodes: list[NodeView] = field(default_factory=list)
    events: list[NoticeEvent] = field(default_factory=list)
    lost: int = 0
    answered: int = 2
    down: bool = False
    slow: bool = False
    """What is asked for shows only when it is told to `begin`."""
    looks: int = 0
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        self.looks += 1
        if self.down:
            raise AwsDown("DescribeInstances failed: could not connect to the endpoint", "Check the network.")
        return Snapshot(time.time(), "prod", tuple(self.tiers), tuple(self.nodes))

    def history(self, since: float) -> list[NoticeEvent]:
        if self.down:
            raise AwsDown("FilterLogEvents failed: could not connect to the endpoint", "Check the network.")
        return [one for one in self.events if one.at >= since]

    def losses(self, snapshot: Snapshot) -> Losses:
        return Losses(time.time(), self.lost, 2, self.answered, self.lost)

    def drain(self, instance_id: str, reason: str, deadline_s: float) -> None:
        if self.down:
            raise AwsDown("SendMessage failed: could not connect to the endpoint", "Check the network.")
        self.asked.append(("drain", instance_id, reason, deadline_s))
        if not self.slow:
            self.begin(instance_id, reason, deadline_s)

    def begin(self, instance_id: str, reason: str, deadline_s: float) -> None:
        self.change(
            instance_id,
            phase="accepting",
            target_state="draining",
            reason=reason,
            deadline=time.time() + deadline_s,
        )

    def undrain(self, instance_id: str) -> None:
        self.asked.append(("undrain", instance_id))
        self.change(instance_id, phase="serving", target_state="healthy", reason=None, deadline=None)

    def change(self, instance_id: str, **fields: Any) -> None:
        self.nodes = [replace(one, **fields) if one.instance_id == instance_id else one for one in self.nodes]


def fleet_of(gateways: int = 3, models: int = 6) -> Fleet:
    nodes = [*(node(i, "gateway") for i in range(gateways)), *(node(100 + i) for i in range(models))]
    tiers = [
        tier("gateway", desired=gateways, in_service=gateways),
        tier("model", desired=models, in_service=models),
    ]
    return Fleet(tiers, nodes)


@dataclass(frozen=True)
class Served:
    url: str
    """With its key."""
    origin: str
    port: int
    known: Secrets
    feed: Feed
    console: Console
    stop: Callable[[], None]


@contextmanager
def served(
    fleet: Fleet,
    *,
    allow_drain: bool = False,
    interval_s: float = 0.1,
    known: Secrets | None = None,
    port: int = 0,
) -> Iterator[Served]:
    """The console over a fleet, in a thread."""
    known = known or Secrets()
    render = partial(picture, price=PRICES.get)
    feed = Feed(
        fleet, "prod", interval_s=interval_s, render=render, clock=time.time, monotonic=time.monotonic
    )
    console = Console(feed, known, fleet if allow_drain else None, time.time, 2.0)
    feed.start()
    with bound("127.0.0.1", port) as listener:
        server = Server(console.app())
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()

        def stop() -> None:
            feed.close()
            server.should_exit = True
            thread.join()

        port = listener.getsockname()[1]
        try:
            yield Served(
                url(listener, known.key), f"http://127.0.0.1:{port}", port, known, feed, console, stop
            )
        finally:
            stop()
