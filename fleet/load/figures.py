"""What a load came to, from its samples: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hdrh.histogram import HdrHistogram

from fleet.load.sample import Outcome, Sample

_MICROSECOND: Final = 1_000_000
_LONGEST_S: Final = 3600
_DIGITS: Final = 3  # of a percentile that are exact
_ERRORS_KEPT, _ERRORS_TOLD = 50, 3


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
    errors: Mapping[str, int]
    """The most frequent, without what differs from one request to the next."""
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

    @property
    def good(self) -> bool:
        """Nothing was lost, and not everything refused."""
        return not self.failed and (self.ok > 0 or not self.refused)


class Tally:
    """Takes samples as they come, and does not grow with them: a stream has hundreds of gaps."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._errors: Counter[str] = Counter()
        self._resumed = self._retried = self._prompt_tokens = self._output_tokens = 0
        self._ttft, self._gap, self._per_token, self._total, self._late = (Times() for _ in range(5))

    def add(self, sample: Sample) -> None:
        self._outcomes[sample.outcome] += 1
        if sample.outcome == "unsent":
            return
        self._resumed += sample.resumes > 0
        self._retried += sample.attempts > 1 + sample.resumes
        self._output_tokens += sample.output_tokens
        self._late.add(sample.late_s)
        if sample.outcome == "ok":
            self._add_times(sample)
        if sample.error is not None:
            self._add_error(sample.error.partition(" (request ")[0])

    def _add_error(self, error: str) -> None:
        if error in self._errors or len(self._errors) < _ERRORS_KEPT:
            self._errors[error] += 1

    def _add_times(self, sample: Sample) -> None:
        self._prompt_tokens += sample.prompt_tokens
        self._ttft.add(sample.ttft_s)
        self._per_token.add(sample.per_token_s)
        self._total.add(sample.total_s)
        for gap in sample.gaps_s:
            self._gap.add(gap)

    def figures(self, offered_rate: float, seconds: float) -> Figures:
        return Figures(
            offered_rate=round(offered_rate, 3),
            seconds=round(seconds, 3),
            sent=self._outcomes.total() - self._outcomes["unsent"],
            ok=self._outcomes["ok"],
            lost=self._outcomes["lost"],
            truncated=self._outcomes["truncated"],
            refused=self._outcomes["refused"],
            unsent=self._outcomes["unsent"],
            resumed=self._resumed,
            retried=self._retried,
            errors=dict(self._errors.most_common(_ERRORS_TOLD)),
            finished_rate=_rate(self._outcomes["ok"], seconds),
            prompt_tokens_rate=_rate(self._prompt_tokens, seconds),
            output_tokens_rate=_rate(self._output_tokens, seconds),
            ttft=self._ttft.percentiles(),
            gap=self._gap.percentiles(),
            per_token=self._per_token.percentiles(),
            total=self._total.percentiles(),
            late=self._late.percentiles(),
        )


class Times:
    """An HDR histogram of seconds; None is left out, and what lasts longer than an hour counts as an hour."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_S * _MICROSECOND, _DIGITS)

    def add(self, seconds: float | None) -> None:
        if seconds is not None:
            self._histogram.record_value(
                max(1, min(round(seconds * _MICROSECOND), _LONGEST_S * _MICROSECOND))
            )

    def percentiles(self) -> Percentiles:
        shares = (50, 90, 95, 99, 99.9, 100)
        values = (self._histogram.get_value_at_percentile(share) for share in shares)
        return Percentiles(self._histogram.get_total_count(), *(value / _MICROSECOND for value in values))


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0
