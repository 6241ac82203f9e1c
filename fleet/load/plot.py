"""A picture of a load: latency against the rate that was offered or, with one rate, over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleet.load.figures import Figures, Percentiles
from fleet.load.sample import Sample

_COLOURS = {"p50": "#3b6ea5", "p95": "#e0a030", "p99": "#b03a2e"}
_INK = "#333333"
_DPI = 130
_WINDOWS = 60


def draw(stages: Sequence[Figures], samples: Sequence[Sample], path: Path) -> None:
    """Write it as PNG to `path`. `samples` are of the only stage, where there is one."""
    with mpl.rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11, 6.5), layout="constrained")
        if len(stages) > 1:
            _by_rate(figure, stages)
        else:
            _over_time(figure, samples)
        figure.savefig(path, dpi=_DPI, format="png")


def _by_rate(figure: Figure, stages: Sequence[Figures]) -> None:
    rates = [stage.offered_rate for stage in stages]
    (first, gap), (total, throughput) = figure.subplots(2, 2)
    _lines(first, "time to first token, ms", rates, [stage.ttft for stage in stages])
    _lines(gap, "between pieces of a stream, ms", rates, [stage.gap for stage in stages])
    _lines(total, "whole answer, ms", rates, [stage.total for stage in stages])
    tokens = [stage.output_tokens_rate for stage in stages]
    throughput.plot(rates, tokens, marker="o", color=_COLOURS["p50"])
    _plain(throughput, "output tokens a second")
    for axes in (first, gap, total, throughput):
        axes.set_xlabel("requests offered a second")


def _over_time(figure: Figure, samples: Sequence[Sample]) -> None:
    """A dot for each request, and a line where one failed."""
    first, total, rate = figure.subplots(3, 1, sharex=True)
    _dots(first, "time to first token, ms", [(s.due_s, s.ttft_s) for s in samples])
    _dots(total, "whole answer, ms", [(s.due_s, s.total_s) for s in samples])
    for failed in (sample for sample in samples if sample.outcome != "ok"):
        total.axvline(failed.due_s, color=_COLOURS["p99"], linewidth=0.8)
    last = max((sample.due_s for sample in samples), default=0.0) or 1.0
    weights = [_WINDOWS / last] * len(samples)
    rate.hist([s.due_s for s in samples], bins=_WINDOWS, range=(0, last), weights=weights, color=_INK)
    _plain(rate, "requests a second")
    rate.set_xlabel("seconds since the load began")


def _dots(axes: Axes, title: str, values: Sequence[tuple[float, float | None]]) -> None:
    known = [(moment, 1000 * value) for moment, value in values if value is not None]
    moments, heights = [moment for moment, _ in known], [height for _, height in known]
    axes.scatter(moments, heights, s=9, alpha=0.6, color=_COLOURS["p50"], linewidths=0)
    _plain(axes, title)


def _lines(axes: Axes, title: str, places: Sequence[float], values: Sequence[Percentiles]) -> None:
    for name, colour in _COLOURS.items():
        # A rate at which nothing was answered has no latency, which is not none.
        heights = [1000 * getattr(value, name) if value.count else math.nan for value in values]
        axes.plot(places, heights, marker="o", markersize=3, color=colour, label=name)
    axes.legend(frameon=False)
    _plain(axes, title)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=_INK)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
