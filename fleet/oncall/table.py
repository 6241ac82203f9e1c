"""Tables of `status`, as wide as there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_NUMERIC: Final = ("MIN", "WANTED", "MAX", "SERVING", "PENDING", "BASE", "AGE", "IN FLIGHT", "LEFT")
_GIVE_WAY: Final = ("IMAGE", "ZONE", "OPTION", "ADDRESS", "AGE", "TIER", "REASON", "MIN", "PENDING", "BASE")
"""Columns, from the one that matters least."""
_WRAPPED: Final = {"REASON": 20}
"""What is wrapped, and into how many columns of the terminal at least."""


@dataclass(frozen=True)
class Fitting:
    """Rows by column. Where they are wider than the terminal, whole columns give way: half an id is none."""

    rows: Sequence[Mapping[str, Text]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        columns = list(self.rows[0]) if self.rows else []
        for column in _GIVE_WAY:
            if column in columns and self._width(columns) > options.max_width:
                columns.remove(column)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            justify: Literal["left", "right"] = "right" if column in _NUMERIC else "left"
            table.add_column(column, justify=justify, no_wrap=column not in _WRAPPED)
        for row in self.rows:
            table.add_row(*(row[column] for column in columns))
        yield table

    def _width(self, columns: Sequence[str]) -> int:
        """With what is between them."""
        widths = {one: max(len(one), *(row[one].cell_len for row in self.rows)) for one in columns}
        return (
            sum(min(width, _WRAPPED.get(one, width)) for one, width in widths.items()) + 2 * len(columns) - 2
        )
