"""Every error that pricing a stack raises on purpose.

GoldenfleetError
+-- CostError
    +-- PriceUnknown         no price is known for what the stack uses
    +-- TableUnreadable      the table of prices is missing or malformed
    +-- PriceSourceFailed    AWS did not tell its prices
        +-- PriceSourceForbidden   for want of credentials or of a permission
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class CostError(GoldenfleetError):
    """A stack cannot be priced."""


class PriceUnknown(CostError):
    """No price is known for what the stack uses; the message names it and the table."""


class TableUnreadable(CostError):
    """The table of prices is missing or malformed."""


class PriceSourceFailed(CostError):
    """AWS did not tell its prices."""


class PriceSourceForbidden(PriceSourceFailed):
    """For want of credentials or of a permission."""

    exit_code = 3
