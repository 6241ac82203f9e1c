"""What a node costs an hour, by the table that comes with the program: no call, and dated."""

from __future__ import annotations

from functools import cache

from fleet.cost.errors import CostError
from fleet.cost.table import bundled_table


@cache
def hourly_price(region: str, instance_type: str, option: str) -> float | None:
    """US dollars; None for a type or region that the table does not have."""
    try:
        table = bundled_table(region)
        return table.spot_price(instance_type) if option == "spot" else table.on_demand_price(instance_type)
    except CostError:
        return None
