"""Numbers from numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

Figures = Mapping[str, float]


def quantile(ascending: Sequence[float], share: float) -> float:
    """The nearest rank; 0 of nothing."""
    if not ascending:
        return 0.0
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def medians(runs: Sequence[Figures]) -> dict[str, float]:
    """Of each figure by itself."""
    names = runs[0] if runs else ()
    return {name: statistics.median(run[name] for run in runs) for name in names}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: how much y grows per x."""
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def ratio(mine: float | None, other: float | None) -> float | None:
    return mine / other if mine and other else None


def best(values: Iterable[float], *, lower_is_better: bool) -> float | None:
    """Zero is "not measured"."""
    known = [value for value in values if value]
    if not known:
        return None
    return min(known) if lower_is_better else max(known)
