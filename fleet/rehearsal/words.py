"""A report in words, for people."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.rehearsal.report import Counts, InterruptionTimes, Report

_WHAT = {"spot": "spot notice", "kill": "killed, no notice", "scale-in": "scale-in"}


def describe(report: Report) -> str:
    """The report as text of at most 100 columns; the verdict comes last."""
    return "\n".join(
        [
            *_clients(report),
            "",
            *_interruptions(report),
            *_scenarios(report),
            "",
            *_fleet(report),
            "",
            *_verdict(report),
        ]
    )


def _clients(report: Report) -> Iterator[str]:
    rate = report.requests_per_second
    yield f"requests   {report.requests:>7}   {report.streams} of them streams, {rate:g} a second"
    yield f"lost       {report.lost:>7}"
    yield f"truncated  {report.truncated:>7}"
    yield f"diverged   {report.diverged:>7}"
    yield f"resumed    {report.resumed:>7}   {_by(report.resumed_by)}"
    yield f"retried    {report.retried:>7}   {_by(report.retried_by)}"
    yield f"latency    p50 {report.latency.p50:.3f} s   p99 {report.latency.p99:.3f} s"
    yield f"ttft       p50 {report.ttft.p50:.3f} s   p99 {report.ttft.p99:.3f} s"


def _by(counts: Counts) -> str:
    return f"by gateways {counts.gateway}, by clients {counts.client}"


def _interruptions(report: Report) -> Iterator[str]:
    yield f"{len(report.interruptions)} interruptions, seconds after the notice"
    if not report.interruptions:
        return
    heads = f"{'refuses':>8} {'refused first':>14} {'empty':>7} {'gone':>7} {'replaced':>9}"
    yield f"  {'at':>6} {'what':<18} {'tier':<8} {heads}"
    yield from (_row(times) for times in report.interruptions)


def _row(times: InterruptionTimes) -> str:
    return (
        f"  {times.at_s:>6.1f} {_WHAT.get(times.kind, times.kind):<18} {times.tier:<8} "
        f"{_seconds(times.refusing_s):>8} {_seconds(times.refused_first_s):>14} {_seconds(times.empty_s):>7} "
        f"{_seconds(times.gone_s):>7} {_seconds(times.replaced_s):>9}"
    )


def _scenarios(report: Report) -> Iterator[str]:
    for outcome in report.scenarios:
        yield ""
        yield f"scenario {outcome.scenario}"
        yield from (f"  {line}" for line in outcome.lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _fleet(report: Report) -> Iterator[str]:
    counts = ", ".join(f"{count} {option}" for option, count in sorted(report.nodes.items()))
    yield f"nodes      {counts}"
    yield (
        f"cost       ${report.cost.hourly:.3f} an hour; all on-demand ${report.cost.hourly_on_demand:.3f} "
        f"({report.cost.saved_percent:.0f}% saved)"
    )
    yield f"memory     {report.memory_peak_mib:.0f} MiB at its peak"
    yield f"policies   {report.policies.rules} rules, {len(report.policies.violations)} advisory violations"
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.steps.items())
    yield f"seconds    {report.seconds:.1f}   ({steps})"


def _verdict(report: Report) -> Iterator[str]:
    yield from report.problems
    yield from report.policies.violations
    if report.kept_the_promise and not report.diverged:
        yield "No client noticed."
    elif report.kept_the_promise:
        yield f"No request was lost, but {report.diverged} answers differ from the undisturbed text."
    else:
        yield f"Clients noticed: {report.lost} requests lost, {report.truncated} streams truncated."
