"""Rows as a table of Markdown, and its place in a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.clients.run import Row
from bench.errors import NothingToCompare

BEGIN, END = "<!-- scripts/bench-clients writes what follows -->", "<!-- until here -->"
_HEAD = (
    "client",
    "requests",
    "kills",
    "in flight at kills",
    "whole answers lost",
    "streams lost before they began",
    "streams broken off",
    "short or wrong, and no error",
    "resumed",
    "median s",
    "slowest s",
)


def table(rows: Sequence[Row]) -> str:
    lines = [_HEAD, ("---",) + ("---:",) * (len(_HEAD) - 1), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    counts = row.counts
    return (
        row.name,
        f"{row.asked:,}",
        str(row.losses.kills),
        str(row.losses.in_flight),
        str(counts["lost"]),
        str(counts["unbegun"]),
        str(counts["cut"]),
        str(counts["short"] + counts["wrong"]),
        str(row.resumed),
        f"{row.p50_s:.2f}",
        f"{row.slowest_s:.1f}",
    )


def put_into(page: str, text: str) -> str:
    """The page with `text` between its marks. Raises NothingToCompare."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise NothingToCompare(f"the page has no place for the table: it needs {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def write(path: Path, text: str) -> None:
    """Raises NothingToCompare."""
    path.write_text(put_into(path.read_text(), text))
