"""What a stack costs, from its settings and one dated table of prices."""

from __future__ import annotations

from fleet.cost.bill import Bill, Case, Line, make_bill
from fleet.cost.errors import PriceSourceFailed, PriceUnknown, TableUnreadable
from fleet.cost.materials import Materials, TierMaterials
from fleet.cost.table import PriceTable, bundled_table

__all__ = [
    "Bill",
    "Case",
    "Line",
    "Materials",
    "PriceSourceFailed",
    "PriceTable",
    "PriceUnknown",
    "TableUnreadable",
    "TierMaterials",
    "bundled_table",
    "make_bill",
]
