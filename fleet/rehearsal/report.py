"""What clients and ops noticed of a rehearsal: a pure function of answers, events and the cloud's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet.policy.evaluate import Evaluation
from fleet.rehearsal.answers import Answer, judge
from fleet.rehearsal.market import on_demand_price
from fleet.rehearsal.nodes import LogEvent
from fleet.rehearsal.scenarios import Outcome

_HOUR = 3600.0


@dataclass(frozen=True)
class NodeLife:
    """An instance from launch to end. Times are unix seconds; None means not yet, or never."""

    instance_id: str
    tier: str
    address: str
    availability_zone: str
    instance_type: str
    purchase_option: str
    hourly_price: float
    launched_at: float
    healthy_at: float | None = None
    noticed_at: float | None = None
    gone_at: float | None = None

    def hours(self, start: float, end: float) -> float:
        """How long it was paid for between two moments."""
        until = min(end, self.gone_at if self.gone_at is not None else end)
        return max(0.0, until - max(start, self.launched_at)) / _HOUR


@dataclass(frozen=True)
class Interruption:
    """One instance taken away on purpose. `at` is when its notice, or with none its end, came."""

    kind: str  # spot, kill, scale-in
    tier: str
    instance_id: str
    purchase_option: str
    at: float
    gone_at: float | None = None
    replacement: str | None = None
    replaced_at: float | None = None


@dataclass(frozen=True)
class Percentiles:
    p50: float
    p99: float


@dataclass(frozen=True)
class InterruptionTimes:
    """Seconds after the notice; None where it did not come to that (nothing is refused without a notice)."""

    kind: str
    tier: str
    instance_id: str
    purchase_option: str
    at_s: float  # since the load began
    refusing_s: float | None  # from when on a new request would have been refused
    refused_first_s: float | None
    empty_s: float | None
    gone_s: float | None
    replacement: str | None
    replaced_s: float | None
    handed_over: int  # streams that were still running when the node's time was over


@dataclass(frozen=True)
class Cost:
    """US dollars an hour, averaged over the load."""

    hourly: float
    hourly_on_demand: float
    saved_percent: float


@dataclass(frozen=True)
class Counts:
    """Requests or streams by who carried them on."""

    gateway: int
    client: int


@dataclass(frozen=True)
class Policies:
    """How the stack stood to the rules of fleet/policy. Mandatory ones held, or there were no report."""

    rules: int
    violations: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What `--json` prints: its fields are the keys, and stay what they are.

    `lost` requests ended in an error; `truncated` streams were cut for good, or taken for finished too early;
    `diverged` answers finished with another text than an undisturbed engine gives. `resumed` and `retried`
    count events at gateways and requests at clients, and `..._by` says which. `latency` and `ttft` (time to
    first token) are in seconds, of requests that succeeded; `seconds` is the whole rehearsal.
    """

    requests: int
    streams: int
    lost: int
    truncated: int
    diverged: int
    resumed: int
    retried: int
    resumed_by: Counts
    retried_by: Counts
    requests_per_second: float
    latency: Percentiles
    ttft: Percentiles
    interruptions: tuple[InterruptionTimes, ...]
    nodes: Mapping[str, int]  # by purchase option, at the end of the load
    cost: Cost
    memory_peak_mib: float
    seconds: float
    steps: Mapping[str, float]  # what the rehearsal did -> seconds
    settings: Mapping[str, Any]
    problems: tuple[str, ...] = field(default=())  # samples of what went wrong
    policies: Policies = Policies(0, ())
    scenarios: tuple[Outcome, ...] = ()

    @property
    def kept_the_promise(self) -> bool:
        """Whether no client noticed: nothing lost and nothing truncated."""
        return self.lost == 0 and self.truncated == 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """All that a report is made from."""

    answers: Sequence[Answer]
    expected: Mapping[str, str]
    log: Sequence[LogEvent]
    interruptions: Sequence[Interruption]
    lives: Sequence[NodeLife]
    load_began: float
    load_ended: float
    memory_peak_mib: float
    seconds: float
    steps: Mapping[str, float]
    settings: Mapping[str, Any]
    policies: Evaluation | None = None
    outcomes: Sequence[Outcome] = ()


def make_report(facts: Facts) -> Report:
    outcomes = Counter(judge(answer, facts.expected) for answer in facts.answers)
    resumed = Counts(_said(facts.log, "request.resumed"), sum(a.resumes > 0 for a in facts.answers))
    retried = Counts(_said(facts.log, "request.retried"), sum(_retried(a) for a in facts.answers))
    load_seconds = facts.load_ended - facts.load_began
    return Report(
        requests=len(facts.answers),
        streams=sum(answer.streamed for answer in facts.answers),
        lost=outcomes["lost"],
        truncated=outcomes["truncated"],
        diverged=outcomes["diverged"],
        resumed=resumed.gateway + resumed.client,
        retried=retried.gateway + retried.client,
        resumed_by=resumed,
        retried_by=retried,
        requests_per_second=round(len(facts.answers) / load_seconds, 2) if load_seconds > 0 else 0.0,
        latency=percentiles(a.seconds for a in facts.answers if a.error is None),
        ttft=percentiles(a.ttft_s for a in facts.answers if a.ttft_s is not None),
        interruptions=tuple(times(i, facts.log, facts.load_began) for i in facts.interruptions),
        nodes=_count(facts.lives, facts.load_ended),
        cost=cost(facts.lives, facts.load_began, facts.load_ended),
        memory_peak_mib=round(facts.memory_peak_mib),
        seconds=round(facts.seconds, 1),
        steps={name: round(seconds, 2) for name, seconds in facts.steps.items()},
        settings=facts.settings,
        problems=_problems(facts.answers, facts.expected),
        policies=_policies(facts.policies),
        scenarios=tuple(facts.outcomes),
    )


def _policies(evaluation: Evaluation | None) -> Policies:
    if evaluation is None:
        return Policies(0, ())
    return Policies(evaluation.rules, tuple(map(str, evaluation.violations)))


def _said(log: Iterable[LogEvent], event: str) -> int:
    return sum(said.event == event and said.role == "gateway" for said in log)


def _retried(answer: Answer) -> bool:
    return answer.attempts > 1 + answer.resumes


def _count(lives: Iterable[NodeLife], moment: float) -> dict[str, int]:
    return dict(Counter(life.purchase_option for life in lives if _lived_at(life, moment)))


def _lived_at(life: NodeLife, moment: float) -> bool:
    return life.launched_at <= moment and (life.gone_at is None or life.gone_at > moment)


def percentiles(values: Iterable[float]) -> Percentiles:
    """By nearest rank, to the millisecond; zeros when there is no value."""
    ranked = sorted(values)
    if not ranked:
        return Percentiles(0.0, 0.0)
    return Percentiles(*(round(ranked[_rank(len(ranked), share)], 3) for share in (50, 99)))


def _rank(count: int, percent: int) -> int:
    return max(0, -(-count * percent // 100) - 1)


def times(interruption: Interruption, log: Iterable[LogEvent], began: float) -> InterruptionTimes:
    """When the node that was taken away did what, in seconds after the notice."""
    own = [
        said for said in log if said.instance_id == interruption.instance_id and said.at >= interruption.at
    ]

    def first(*events: str) -> float | None:
        return _after(interruption.at, next((said.at for said in own if said.event in events), None))

    return InterruptionTimes(
        kind=interruption.kind,
        tier=interruption.tier,
        instance_id=interruption.instance_id,
        purchase_option=interruption.purchase_option,
        at_s=round(interruption.at - began, 2),
        refusing_s=first("drain.refusing"),
        refused_first_s=first("drain.refused_first"),
        empty_s=first("drain.empty"),
        gone_s=_after(interruption.at, interruption.gone_at),
        replacement=interruption.replacement,
        replaced_s=_after(interruption.at, interruption.replaced_at),
        handed_over=sum(int(s.fields.get("in_flight", 0)) for s in own if s.event == "drain.handing_over"),
    )


def _after(start: float, moment: float | None) -> float | None:
    return None if moment is None else round(moment - start, 2)


def cost(lives: Iterable[NodeLife], began: float, ended: float) -> Cost:
    """What the nodes cost while the load lasted, and what the same ones had cost on demand."""
    hours = (ended - began) / _HOUR
    if hours <= 0:
        return Cost(0.0, 0.0, 0.0)
    paid = [(life, life.hours(began, ended)) for life in lives]
    actual = sum(life.hourly_price * share for life, share in paid) / hours
    full = sum(on_demand_price(life.instance_type) * share for life, share in paid) / hours
    saved = 100 * (1 - actual / full) if full else 0.0
    return Cost(round(actual, 4), round(full, 4), round(saved, 1))


def _problems(answers: Iterable[Answer], expected: Mapping[str, str], limit: int = 5) -> tuple[str, ...]:
    wrong = ((judge(answer, expected), answer) for answer in answers)
    described = [
        f"{outcome}: client {a.client}, {a.kind}: {a.error or _difference(a, expected[a.key])}"
        for outcome, a in wrong
        if outcome != "ok"
    ]
    return tuple(described[:limit])


def _difference(answer: Answer, wanted: str) -> str:
    same = next(
        (i for i, (got, want) in enumerate(zip(answer.text, wanted, strict=False)) if got != want),
        min(len(answer.text), len(wanted)),
    )
    return (
        f"finish_reason {answer.finish_reason}, {len(answer.text)} characters instead of {len(wanted)}, "
        f"differs at {same}: {answer.text[same : same + 20]!r} instead of {wanted[same : same + 20]!r}"
    )
