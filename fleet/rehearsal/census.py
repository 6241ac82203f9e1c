"""The life of every node, put together from one look at the cloud after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fleet.rehearsal.cloud import InstanceView
from fleet.rehearsal.report import NodeLife


class Census:
    """Who lived when. Feed it with `look` often: what is between two looks is known no finer."""

    def __init__(self) -> None:
        self._lives: dict[str, NodeLife] = {}

    @property
    def lives(self) -> tuple[NodeLife, ...]:
        return tuple(self._lives.values())

    def look(self, instances: Sequence[InstanceView], now: float) -> None:
        """Take note of the instances that there are now (unix seconds)."""
        for instance in instances:
            known = self._lives.get(instance.instance_id) or _born(instance)
            if known is not None:
                self._lives[instance.instance_id] = _aged(known, instance, now)
        present = {instance.instance_id for instance in instances}
        for life in self.lives:
            if life.instance_id not in present and life.gone_at is None:
                self._lives[life.instance_id] = replace(life, gone_at=now)


def _born(instance: InstanceView) -> NodeLife | None:
    """Instances outside every tier are no nodes."""
    if instance.tier is None:
        return None
    return NodeLife(
        instance_id=instance.instance_id,
        tier=instance.tier,
        address=instance.address,
        availability_zone=instance.availability_zone,
        instance_type=instance.instance_type,
        purchase_option=instance.purchase_option,
        hourly_price=instance.hourly_price,
        launched_at=instance.launched_at,
    )


def _aged(life: NodeLife, instance: InstanceView, now: float) -> NodeLife:
    if life.healthy_at is None and instance.target_state == "healthy":
        life = replace(life, healthy_at=now)
    if life.noticed_at is None and instance.noticed_at is not None:
        life = replace(life, noticed_at=instance.noticed_at)
    return life
