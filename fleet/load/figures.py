"""What a load came to, from its samples: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hdrh.histogram import HdrHistogram

from fleet.load.sample import Sample

_MICROSECOND: Final = 1_000_000
_LONGEST_S: Final = 3600
_DIGITS: Final = 3  # of a percentile that are exact


@dataclass(frozen=True)
class Percentiles:
    """Seconds, exact to three digits; zeros when nothing was measured."""

    count: int
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True)
class Figures:
    """Of one rate. Rates are a second of `seconds`, which last until the last answer ended."""

    offered_rate: float
    seconds: float
    sent: int
    ok: int
    lost: int
    truncated: int
    refused: int
    unsent: int
    resumed: int
    retried: int
    finished_rate: float
    prompt_tokens_rate: float
    output_tokens_rate: float
    ttft: Percentiles
    gap: Percentiles
    per_token: Percentiles
    total: Percentiles
    late: Percentiles

    @property
    def failed(self) -> int:
        """What a client noticed."""
        return self.lost + self.truncated


def figures(samples: Sequence[Sample], offered_rate: float, seconds: float) -> Figures:
    outcomes = Counter(sample.outcome for sample in samples)
    sent = [sample for sample in samples if sample.outcome != "unsent"]
    well = [sample for sample in samples if sample.outcome == "ok"]
    return Figures(
        offered_rate=round(offered_rate, 3),
        seconds=round(seconds, 3),
        sent=len(sent),
        ok=outcomes["ok"],
        lost=outcomes["lost"],
        truncated=outcomes["truncated"],
        refused=outcomes["refused"],
        unsent=outcomes["unsent"],
        resumed=sum(sample.resumes > 0 for sample in sent),
        retried=sum(sample.attempts > 1 + sample.resumes for sample in sent),
        finished_rate=_rate(len(well), seconds),
        prompt_tokens_rate=_rate(sum(sample.prompt_tokens for sample in well), seconds),
        output_tokens_rate=_rate(sum(sample.output_tokens for sample in sent), seconds),
        ttft=percentiles(sample.ttft_s for sample in well),
        gap=percentiles(gap for sample in well for gap in sample.gaps_s),
        per_token=percentiles(sample.per_token_s for sample in well),
        total=percentiles(sample.total_s for sample in well),
        late=percentiles(sample.late_s for sample in sent),
    )


def percentiles(values: Iterable[float | None]) -> Percentiles:
    """By an HDR histogram; None is left out, and what lasts longer than an hour counts as an hour."""
    histogram = HdrHistogram(1, _LONGEST_S * _MICROSECOND, _DIGITS)
    for value in values:
        if value is not None:
            histogram.record_value(max(1, min(round(value * _MICROSECOND), _LONGEST_S * _MICROSECOND)))
    count = histogram.get_total_count()
    if not count:
        return Percentiles(0, *[0.0] * 6)
    shares = (50, 90, 95, 99, 99.9, 100)
    return Percentiles(count, *(histogram.get_value_at_percentile(share) / _MICROSECOND for share in shares))


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0
