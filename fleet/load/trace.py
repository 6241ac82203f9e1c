"""Arrivals from a CSV trace with the columns of Azure's LLM inference traces.

TIMESTAMP,ContextTokens,GeneratedTokens (github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023):
when a request arrived, how many tokens its prompt had, and how many its answer.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from fleet.load.arrivals import MOST_REQUESTS, Arrival, Lengths
from fleet.load.errors import TraceError

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_HINT = f"A trace has a line {','.join(COLUMNS)} first, and times such as 2023-11-16 18:17:03.97."


def read_trace(path: Path, *, speed: float, duration_s: float, most: Lengths) -> tuple[Arrival, ...]:
    """The first `duration_s` seconds of `path`, played `speed` times as fast; lengths are cut to `most`.

    Raises TraceError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = _arrivals(csv.DictReader(lines), path, speed, duration_s, most)
            found = tuple(islice(rows, MOST_REQUESTS + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"cannot read {path}: {error}", _HINT) from error
    if not found:
        raise TraceError(f"{path} holds no request within {duration_s:g} s", _HINT)
    return found


def _arrivals(
    rows: Iterable[Mapping[str, str | None]], path: Path, speed: float, duration_s: float, most: Lengths
) -> Iterator[Arrival]:
    first, before = None, 0.0
    for number, row in enumerate(rows, 2):
        try:
            moment, lengths = _read(row, most)
        except ValueError as error:
            raise TraceError(f"{path}, line {number}, is no request: {error}", _HINT) from error
        first = moment if first is None else first
        at_s = (moment - first) / speed
        if at_s < before:
            raise TraceError(f"{path}, line {number}, is earlier than the line before it", "Sort the trace.")
        if at_s >= duration_s:
            return
        before = at_s
        yield Arrival(at_s, lengths)


def _read(row: Mapping[str, str | None], most: Lengths) -> tuple[float, Lengths]:
    """Unix seconds, and lengths."""
    timestamp, prompt, output = (row.get(column) for column in COLUMNS)
    if timestamp is None or prompt is None or output is None:
        raise ValueError("it has too few columns")
    moment = datetime.fromisoformat(_microseconds(timestamp.strip())).replace(tzinfo=UTC)
    lengths = Lengths(
        min(max(1, int(prompt)), most.prompt_tokens), min(max(1, int(output)), most.output_tokens)
    )
    return moment.timestamp(), lengths


def _microseconds(timestamp: str) -> str:
    """Azure's have seven digits after the point, of which Python reads six."""
    whole, point, fraction = timestamp.partition(".")
    return f"{whole}{point}{fraction[:6]}"
