"""A picture of a rehearsal: nodes as bars, notices and drains marked on them, requests per second below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fleet.rehearsal.answers import Answer, judge
from fleet.rehearsal.nodes import LogEvent
from fleet.rehearsal.report import Facts, Interruption, NodeLife

_COLOURS = {"on-demand": "#3b6ea5", "spot": "#e0a030"}
_BOOT, _DRAIN, _WRONG, _INK = "#d9d9d9", "#b03a2e", "#c00000", "#333333"
_BAR = 0.62
_MARKS = {"spot": ("v", "spot notice"), "kill": ("X", "killed, no notice"), "scale-in": ("s", "scale-in")}
_DPI = 130


def draw(facts: Facts, path: Path) -> None:
    """Write the picture as PNG to `path`; its time axis is in seconds since the load began."""
    lives = [
        life for life in _ordered(facts.lives) if life.gone_at is None or life.gone_at > facts.load_began
    ]
    with mpl.rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        height = 2.6 + 0.34 * len(lives)
        figure = Figure(figsize=(11, height), layout="constrained")
        bars, rate = figure.subplots(2, 1, sharex=True, height_ratios=[max(len(lives), 3), 4])
        _draw_nodes(bars, facts, lives)
        _draw_rate(rate, facts)
        figure.savefig(path, dpi=_DPI, format="png")


def _ordered(lives: Sequence[NodeLife]) -> list[NodeLife]:
    return sorted(lives, key=lambda life: (life.tier, life.launched_at, life.instance_id))


def _draw_nodes(axes: Axes, facts: Facts, lives: Sequence[NodeLife]) -> None:
    rows = {life.instance_id: row for row, life in enumerate(lives)}
    for life in lives:
        _draw_life(axes, rows[life.instance_id], life, facts)
    for said in facts.log:
        if said.instance_id in rows:
            _draw_drain(axes, rows[said.instance_id], said, lives[rows[said.instance_id]], facts)
    for interruption in facts.interruptions:
        _mark(axes, rows, interruption, facts.load_began)
    axes.set_yticks(range(len(lives)), [f"{life.tier}  {life.instance_id[-4:]}" for life in lives])
    axes.set_ylim(len(lives) - 0.4, -0.9)
    axes.set_title(_title(facts), loc="left", fontsize=11, color=_INK)
    axes.legend(handles=_legend(), loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _plain(axes)


def _draw_life(axes: Axes, row: int, life: NodeLife, facts: Facts) -> None:
    end = (life.gone_at if life.gone_at is not None else facts.load_ended) - facts.load_began
    launched = life.launched_at - facts.load_began
    healthy = life.healthy_at - facts.load_began if life.healthy_at is not None else end
    axes.barh(row, healthy - launched, left=launched, height=_BAR, color=_BOOT)
    axes.barh(row, end - healthy, left=healthy, height=_BAR, color=_COLOURS[life.purchase_option])


def _draw_drain(axes: Axes, row: int, said: LogEvent, life: NodeLife, facts: Facts) -> None:
    at = said.at - facts.load_began
    if said.event == "drain.started":
        gone = life.gone_at if life.gone_at is not None else facts.load_ended
        left = gone - facts.load_began - at
        axes.barh(
            row, left, left=at, height=_BAR, facecolor="none", edgecolor=_DRAIN, hatch="////", linewidth=0
        )
    elif said.event == "drain.empty":
        axes.plot([at, at], [row - _BAR / 2, row + _BAR / 2], color=_INK, linewidth=2)


def _mark(axes: Axes, rows: dict[str, int], interruption: Interruption, began: float) -> None:
    if interruption.instance_id in rows:
        marker, _ = _MARKS[interruption.kind]
        row = rows[interruption.instance_id]
        axes.plot(
            interruption.at - began, row - 0.45, marker=marker, color=_DRAIN, markersize=8, clip_on=False
        )
    if interruption.replacement in rows and interruption.replaced_at is not None:
        row = rows[interruption.replacement]
        axes.plot(interruption.replaced_at - began, row, marker="o", color="white", markersize=5)


def _title(facts: Facts) -> str:
    wrong = Counter(judge(answer, facts.expected) for answer in facts.answers)
    return (
        f"{len(facts.answers)} requests, {wrong['lost']} lost, {wrong['truncated']} truncated, "
        f"{len(facts.interruptions)} interruptions"
    )


def _legend() -> list[Patch | Line2D]:
    def mark(marker: str, label: str, colour: str = _DRAIN) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, label=label, markersize=7)

    return [
        *(Patch(color=colour, label=option) for option, colour in _COLOURS.items()),
        Patch(color=_BOOT, label="starting"),
        Patch(facecolor="none", edgecolor=_DRAIN, hatch="////", linewidth=0, label="drains"),
        *(mark(marker, label) for marker, label in _MARKS.values()),
        mark("|", "empty", _INK),
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            color="white",
            markeredgecolor=_INK,
            label="replacement serves",
        ),
    ]


def _draw_rate(axes: Axes, facts: Facts) -> None:
    seconds = max(1, round(facts.load_ended - facts.load_began))
    finished = Counter(int(answer.ended - facts.load_began) for answer in facts.answers)
    axes.bar(range(seconds), [finished[s] for s in range(seconds)], width=1.0, align="edge", color="#7f8fa6")
    _draw_wrong(axes, facts.answers, facts)
    for interruption in facts.interruptions:
        axes.axvline(interruption.at - facts.load_began, color=_DRAIN, linewidth=0.8, linestyle=":")
    axes.set_ylabel("requests finished\na second")
    axes.set_xlabel("seconds since the load began")
    axes.set_xlim(0, seconds)
    _plain(axes)


def _draw_wrong(axes: Axes, answers: Sequence[Answer], facts: Facts) -> None:
    wrong = [a.ended - facts.load_began for a in answers if judge(a, facts.expected) != "ok"]
    axes.plot(wrong, [0] * len(wrong), marker="x", color=_WRONG, linestyle="none", clip_on=False)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
