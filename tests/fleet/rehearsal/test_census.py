from __future__ import annotations

from dataclasses import replace

from fleet.rehearsal.census import Census
from fleet.rehearsal.cloud import InstanceView

NODE = InstanceView(
    instance_id="i-1",
    tier="model",
    address="127.0.16.4",
    availability_zone="us-east-1a",
    instance_type="c7i.large",
    purchase_option="spot",
    state="pending",
    lifecycle_state="Pending",
    target_state=None,
    launched_at=10.0,
    running_at=None,
    terminated_at=None,
    image_id="ami-1",
    user_data="",
    group="models",
    subnet_id="subnet-1",
    tags={},
    metadata_endpoint="http://127.0.16.4:1338",
    hourly_price=0.03,
    noticed_at=None,
    taken_at=None,
)


def test_a_life() -> None:
    """A node's life is its launch, the first time it was healthy, its notice and its end."""
    census = Census()
    census.look([NODE], 11.0)
    census.look([replace(NODE, target_state="healthy")], 14.0)
    census.look([replace(NODE, target_state="draining", noticed_at=20.0)], 21.0)
    census.look([], 32.0)
    (life,) = census.lives
    assert (life.launched_at, life.healthy_at, life.noticed_at, life.gone_at) == (10.0, 14.0, 20.0, 32.0)


def test_healthy_again() -> None:
    """A node that falls ill and recovers keeps the moment when it first served."""
    census = Census()
    for moment, state in enumerate(("healthy", "unhealthy", "healthy")):
        census.look([replace(NODE, target_state=state)], float(moment))  # type: ignore[arg-type]
    assert census.lives[0].healthy_at == 0.0


def test_other_instances() -> None:
    """An instance of no tier is no node."""
    census = Census()
    census.look([replace(NODE, tier=None)], 1.0)
    assert census.lives == ()
