"""What a stack is made of, as far as it costs: from its settings alone, so that nothing need exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.cost.table import ItemName

SHARED = "shared"


@dataclass(frozen=True)
class VolumeMaterial:
    """A gp3 volume. `initialization_mibps` is 0 where no rate is asked for."""

    gib: int
    mibps: int
    iops: int
    initialization_mibps: int = 0


@dataclass(frozen=True)
class TierMaterials:
    """`min`, `desired` and `max` are units of capacity; a node is one, or its type's weight."""

    name: str
    instance_types: tuple[str, ...]
    min: int
    desired: int
    max: int
    on_demand_base: int
    on_demand_percent: int
    volumes: tuple[VolumeMaterial, ...]
    detailed_monitoring: bool = True
    weights: Mapping[str, int] = field(default_factory=dict)
    by_requirements: bool = False
    """The types are all that fit, in no order: on demand takes the cheapest."""

    def weight(self, instance_type: str) -> int:
        return self.weights.get(instance_type, 1)


@dataclass(frozen=True)
class Fixed:
    """What a stack has whatever its size: `count` of an item of the table."""

    what: str
    item: ItemName
    count: float
    tier: str = SHARED


@dataclass(frozen=True)
class Materials:
    stack: str
    tiers: tuple[TierMaterials, ...]
    fixed: tuple[Fixed, ...]
