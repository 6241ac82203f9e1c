"""Fleets in memory, in the words of the on-call package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet.oncall.snapshot import NodeView, Snapshot, TierView

NOW = 1_700_000_000.0

MakeNode = Callable[..., NodeView]
MakeTier = Callable[..., TierView]
MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture
def make_node() -> MakeNode:
    def make(instance_id: str = "i-0aaa000000000000a", **fields: Any) -> NodeView:
        shape: dict[str, Any] = {
            "instance_id": instance_id,
            "tier": "model",
            "address": "10.0.16.4",
            "purchase_option": "spot",
            "instance_type": "g6.xlarge",
            "availability_zone": "us-east-1a",
            "launched_at": NOW - 3600,
            "lifecycle_state": "InService",
            "target_state": "healthy",
            "phase": "serving",
            "in_flight": 3,
            "deadline": None,
            "reason": None,
            "image_id": "ami-1",
            "hourly_price": 0.3,
            "name": "gf-prod-model",
            "role": "model",
            "ready": True,
            **fields,
        }
        return NodeView(**shape)

    return make


@pytest.fixture
def make_tier() -> MakeTier:
    def make(name: str = "model", **fields: Any) -> TierView:
        shape: dict[str, Any] = {
            "name": name,
            "role": "gateway" if name == "gateway" else "model",
            "group": f"gf-prod-{name}-1a2b3c4",
            "min": 1,
            "desired": 2,
            "max": 4,
            "in_service": 2,
            "pending": 0,
            "on_demand_base": 1,
            "image_id": "ami-1",
            "channel_image_id": "ami-1",
            "configured_base": 1,
            **fields,
        }
        return TierView(**shape)

    return make


@pytest.fixture
def make_snapshot(make_tier: MakeTier, make_node: MakeNode) -> MakeSnapshot:
    def make(
        nodes: tuple[NodeView, ...] | None = None, tiers: tuple[TierView, ...] | None = None, at: float = NOW
    ) -> Snapshot:
        if tiers is None:
            tiers = (make_tier("gateway"), make_tier("model"))
        return Snapshot(at, "prod", tiers, (make_node(),) if nodes is None else nodes)

    return make
