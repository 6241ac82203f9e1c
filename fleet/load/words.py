"""The figures of a load in words, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleet.load.figures import Figures, Percentiles

# Beyond this the process that sends is itself what is measured.
_LATE_S = 0.05
_NOTES = {
    "ttft": "from when due",
    "gap": "between pieces",
    "per token": "after the first",
    "total": "from when due",
}


def describe(stages: Sequence[Figures]) -> str:
    """Text of at most 100 columns."""
    lines = [line for stage in stages for line in (*_stage(stage), "")]
    return "\n".join([*lines, *_warnings(stages), _verdict(stages)])


def _stage(stage: Figures) -> Iterator[str]:
    yield f"offered {stage.offered_rate:g} requests a second; {stage.sent} sent in {stage.seconds:.1f} s"
    yield (
        f"  finished   {stage.finished_rate:g} requests, {stage.output_tokens_rate:g} output and "
        f"{stage.prompt_tokens_rate:g} prompt tokens a second"
    )
    yield (
        f"  ok {stage.ok}, lost {stage.lost}, truncated {stage.truncated}, refused {stage.refused}, "
        f"unsent {stage.unsent}; resumed {stage.resumed}, retried {stage.retried}"
    )
    yield from (f"  {count} x {error[:90]}" for error, count in stage.errors.items())
    yield f"  {'milliseconds':<12} {'p50':>8} {'p90':>8} {'p95':>8} {'p99':>8} {'p99.9':>8} {'max':>8}"
    named = {"ttft": stage.ttft, "gap": stage.gap, "per token": stage.per_token, "total": stage.total}
    yield from (f"  {_row(name, values)}   {_NOTES[name]}" for name, values in named.items())


def _row(name: str, values: Percentiles) -> str:
    if not values.count:
        return f"{name:<12} " + " ".join(["       -"] * 6)
    shown = (values.p50, values.p90, values.p95, values.p99, values.p999, values.max)
    return f"{name:<12} " + " ".join(f"{1000 * value:>8.1f}" for value in shown)


def _warnings(stages: Sequence[Figures]) -> Iterator[str]:
    for stage in stages:
        if stage.late.p99 > _LATE_S:
            yield (
                f"at {stage.offered_rate:g} a second 1 request in 100 left "
                f"{1000 * stage.late.p99:.0f} ms late: this process is a limit"
            )
        if stage.unsent:
            yield f"at {stage.offered_rate:g} a second {stage.unsent} were unsent: raise --most-at-once"


def _verdict(stages: Sequence[Figures]) -> str:
    failed, sent = sum(stage.failed for stage in stages), sum(stage.sent for stage in stages)
    if failed:
        return f"{failed} of {sent} requests lost or truncated."
    refused = (
        "" if all(stage.good for stage in stages) else ", but all refused at a rate: nothing was measured"
    )
    return f"None of {sent} requests lost{refused}."
