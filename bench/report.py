"""What a run says: tables that can go into a document, and the bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import best, medians, ratio
from bench.gateways import Spec
from bench.modes import Mode
from bench.run import Results

RUST = ("sglang-router", "vllm-router")
OURS, NGINX, DIRECT = "ours", "nginx", "direct"
_IDLE_KIB = 64.0
_HANGUP_MS = 100.0
_ADDED_TTFT_MS = 5.0
_GROWTH_MIB = 2.0

_COLUMNS: Mapping[Mode, Sequence[tuple[str, str, str]]] = {
    "unary": (
        ("requests/s", "per_s", ",.0f"),
        ("per core, /s", "per_core_s", ",.0f"),
        ("CPU us/request", "cpu_us", ".1f"),
        ("core share", "busy", ".0%"),
        ("p50 ms", "p50_ms", ".2f"),
        ("p99 ms", "p99_ms", ".2f"),
        ("failed", "lost", ".0f"),
    ),
    "paced": (
        ("CPU us/token", "cpu_us_per_token", ".1f"),
        ("core share", "busy", ".0%"),
        ("TTFT added p50 ms", "added_p50_ms", ".2f"),
        ("TTFT added p99 ms", "added_p99_ms", ".2f"),
        ("gap p50 ms", "gap_p50_ms", ".2f"),
        ("gap p99 ms", "gap_p99_ms", ".2f"),
        ("whole", "ok", ".0f"),
        ("lost", "lost", ".0f"),
    ),
    "full": (
        ("tokens/s", "tokens_per_s", ",.0f"),
        ("per core, /s", "per_core_s", ",.0f"),
        ("CPU us/token", "cpu_us_per_token", ".2f"),
        ("core share", "busy", ".0%"),
        ("lost", "lost", ".0f"),
    ),
}
# Which figure of a mode is compared, and whether less is better.
_COMPARED: Mapping[str, tuple[Mode, str, bool]] = {
    "CPU per token, paced": ("paced", "cpu_us_per_token", True),
    "unary per second": ("unary", "per_s", False),
    "unary per second of a whole core": ("unary", "per_core_s", False),
    "tokens per second, full speed": ("full", "tokens_per_s", False),
    "tokens per second of a whole core": ("full", "per_core_s", False),
}

Medians = Mapping[Mode, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold; `met` is None where it was not measured."""

    what: str
    value: float | None
    limit: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours to theirs."""

    what: str
    to_rust: float | None
    to_nginx: float | None


def summary(results: Results) -> Medians:
    """Medians of the repeats, with what follows from them."""
    found: dict[Mode, dict[str, dict[str, float]]] = {}
    for mode, runs in results.runs.items():
        found[mode] = {name: medians(of_one) for name, of_one in runs.items() if of_one}
        for figures in found[mode].values():
            _derive(mode, figures, found[mode].get(DIRECT, {}))
    return found


def ratios(found: Medians) -> list[Ratio]:
    """To the best Rust router and to nginx, each in the same run."""
    made = []
    for what, (mode, name, lower) in _COMPARED.items():
        of_mode = found.get(mode, {})
        values = {gateway: figures.get(name) for gateway, figures in of_mode.items()}
        rust = best((values.get(gateway) or 0 for gateway in RUST), lower_is_better=lower)
        ours = values.get(OURS)
        made.append(Ratio(what, ratio(ours, rust), ratio(ours, values.get(NGINX))))
    return made


def bars(results: Results, found: Medians) -> list[Bar]:
    by_name = {one.what: one.to_rust for one in ratios(found)}
    paced = found.get("paced", {}).get(OURS, {})
    return [
        _at_most("CPU per token to the best Rust router", by_name["CPU per token, paced"], 1.0),
        _at_least("unary rate to the best Rust router", by_name["unary per second"], 1.0),
        _at_least("full speed to the best Rust router", by_name["tokens per second, full speed"], 0.8),
        _at_most("TTFT added, p99, ms", paced.get("added_p99_ms"), _ADDED_TTFT_MS),
        _at_most("retries and resumes with nothing wrong", _hidden(results), 0),
        *_fault_bars(results),
        _at_most("resumed before the gateway was killed", results.gateway_kill.get("resumed_early"), 0),
        _at_most("client hangs up, engine stops, ms", _slowest(results.hangup.get(OURS)), _HANGUP_MS),
        _at_most("lost to a killed gateway", _lost_to_kill(results.gateway_kill), 0),
        _at_most("memory of an idle stream, KiB", results.idle.get("kib_per_stream"), _IDLE_KIB),
        _at_most("idle streams lost", results.idle.get("lost"), 0),
        _at_most("memory growth in the soak, MiB", results.soak.get("growth_mib"), _GROWTH_MIB),
    ]


def as_json(results: Results, skipped: Mapping[str, str]) -> dict[str, Any]:
    found = summary(results)
    return {
        "machine": asdict(results.machine) if results.machine else None,
        "skipped": {**skipped, **results.skipped},
        "medians": found,
        "ratios": [asdict(one) for one in ratios(found)],
        "bars": [asdict(bar) for bar in bars(results, found)],
        "faults": {
            fault: {name: asdict(one) for name, one in of_one.items()}
            for fault, of_one in results.faults.items()
        },
        "hangup": results.hangup,
        "gateway_kill": results.gateway_kill,
        "idle": results.idle,
        "soak": results.soak,
        "runs": results.runs,
    }


def show(results: Results, gateways: Iterable[Spec], skipped: Mapping[str, str], console: Console) -> None:
    found = summary(results)
    if results.machine:
        console.print(f"{results.machine}\n", highlight=False)
    for name, why in {**skipped, **results.skipped}.items():
        console.print(f"Not measured: {name}: {why}\n", highlight=False, markup=False)
    for table in _tables(results, found, gateways):
        console.print(table)


def _tables(results: Results, found: Medians, gateways: Iterable[Spec]) -> Iterator[Table]:
    order = [spec.name for spec in gateways]
    for mode, of_mode in found.items():
        yield _mode_table(mode, of_mode, order)
    if results.faults:
        yield _fault_table(results)
    if results.hangup:
        yield _hangup_table(results)
    for title in ("gateway_kill", "idle", "soak"):
        figures = getattr(results, title)
        if figures:
            yield _figures_table(title.replace("_", " "), figures)
    if any(one.to_rust or one.to_nginx for one in ratios(found)):
        yield _ratio_table(ratios(found))
    measured = [bar for bar in bars(results, found) if bar.value is not None]
    if measured:
        yield _bar_table(measured)


def _mode_table(mode: Mode, of_mode: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> Table:
    table = _table(mode, *(title for title, _, _ in _COLUMNS[mode]))
    for name in (name for name in order if name in of_mode):
        table.add_row(name, *(format(of_mode[name].get(key, 0.0), how) for _, key, how in _COLUMNS[mode]))
    return table


def _hangup_table(results: Results) -> Table:
    table = _table("client hangs up, engine stops after", "stream, max ms", "unary, max ms")
    for name, one in results.hangup.items():
        table.add_row(name, f"{one['stream_max_ms']:.1f}", f"{one['unary_max_ms']:.1f}")
    return table


def _figures_table(title: str, figures: Mapping[str, float]) -> Table:
    table = _table(title, *figures)
    table.add_row(OURS, *(f"{value:.4g}" for value in figures.values()))
    return table


def _ratio_table(found: Iterable[Ratio]) -> Table:
    table = _table("ours to", "best Rust router", "nginx")
    for one in found:
        table.add_row(one.what, _times(one.to_rust), _times(one.to_nginx))
    return table


def _bar_table(found: Iterable[Bar]) -> Table:
    table = _table("bar", "measured", "limit", "met")
    for bar in found:
        table.add_row(bar.what, f"{bar.value:.3g}", bar.limit, "yes" if bar.met else "NO")
    return table


def _fault_table(results: Results) -> Table:
    """Unary requests that failed, streams that failed or were truncated, and the longest silence."""
    names = list(dict.fromkeys(name for of_one in results.faults.values() for name in of_one))
    table = _table("failed unary + broken streams, of those offered", *results.faults)
    for name in names:
        cells = []
        for of_one in results.faults.values():
            one = of_one.get(name)
            broken = one and one.streams_failed + one.streams_truncated + one.wrong
            cells.append(
                f"{one.unary_failed}/{one.unary} + {broken}/{one.streams}" if one is not None else "-"
            )
        table.add_row(name, *cells)
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(first, box=box.MARKDOWN)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _derive(mode: Mode, figures: dict[str, float], direct: Mapping[str, float]) -> None:
    figures["lost"] = sum(figures.get(name, 0) for name in ("failed", "truncated", "wrong"))
    busy = figures["busy"]
    rate = figures.get("per_s" if mode == "unary" else "tokens_per_s", 0.0)
    figures["per_core_s"] = rate / busy if busy else 0.0
    for share in ("p50", "p99") if mode == "paced" and direct else ():
        figures[f"added_{share}_ms"] = figures[f"ttft_{share}_ms"] - direct[f"ttft_{share}_ms"]


def _fault_bars(results: Results) -> Iterator[Bar]:
    for fault, of_one in results.faults.items():
        one = of_one.get(OURS)
        if one is not None:
            yield _at_most(f"lost to {fault}", one.lost, 0)


def _hidden(results: Results) -> float | None:
    """Work that was done twice although no engine failed."""
    runs = [run for of_mode in results.runs.values() for run in of_mode.get(OURS, ())]
    return sum(run.get("hidden", 0) for run in runs) if runs else None


def _slowest(figures: Mapping[str, float] | None) -> float | None:
    return max(figures.values()) if figures else None


def _lost_to_kill(figures: Mapping[str, float]) -> float | None:
    return figures["lost"] + figures["truncated"] + figures["wrong"] if figures else None


def _at_most(what: str, value: float | None, limit: float) -> Bar:
    return Bar(what, value, f"<= {limit:g}", None if value is None else value <= limit)


def _at_least(what: str, value: float | None, limit: float) -> Bar:
    return Bar(what, value, f">= {limit:g}", None if value is None else value >= limit)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
