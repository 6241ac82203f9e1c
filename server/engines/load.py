"""How busy an engine is, read from its own metrics."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Load:
    """None is what the engine does not say. `kv_used_ratio` is a share of the KV cache, 0 to 1."""

    queued: float | None = None
    running: float | None = None
    kv_used_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Gauges:
    """Names of an engine's gauges; of several the first that is there counts."""

    queued: tuple[str, ...]
    running: tuple[str, ...]
    kv_used_ratio: tuple[str, ...] = ()


def read_load(gauges: Gauges, exposition: str) -> Load:
    """Requests are summed over an engine's parts, of the KV cache the fullest part counts.

    Raises ValueError for what is not Prometheus' text format.
    """
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.value)
    return Load(
        queued=_first(gauges.queued, found, sum),
        running=_first(gauges.running, found, sum),
        kv_used_ratio=_first(gauges.kv_used_ratio, found, max),
    )


def _first(
    names: Iterable[str], found: dict[str, list[float]], join: Callable[[list[float]], float]
) -> float | None:
    value = next((join(found[name]) for name in names if name in found), None)
    return None if value is None or math.isnan(value) else float(value)
