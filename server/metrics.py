"""Every metric of a server process: names, labels, meaning. docs/metrics.md is made from this table.

Label values come from our own tables, or through a BoundedLabel: a client cannot make series at will.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER = "other"
MAX_MODELS = 20
MAX_TENANTS = 50

# From 5 ms (a refusal) to 5 min (a long generation).
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# From the fastest small model to one that is about to be given up.
_GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS_PER_SECOND = (1, 5, 10, 20, 30, 50, 75, 100, 200, 500, 1000)

M = TypeVar("M", Counter, Histogram)
_SAFE = re.compile(r"[A-Za-z0-9._:/@+-]{1,96}")


class BoundedLabel:
    """The values of a label that outsiders choose: the first `most` that are learned, all others `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def learn(self, value: str | None) -> str:
        """The label of a value that proved to be real."""
        if value in self._known:
            assert value is not None
            return value
        if value is None or len(self._known) >= self._most or not is_safe(value):
            return OTHER
        self._known.add(value)
        return value

    def of(self, value: str | None) -> str:
        """The label of a value that nobody vouches for."""
        return value if value is not None and value in self._known else OTHER


def is_safe(value: str) -> bool:
    """Whether a name that a client gave can stand in a log line or a label."""
    return _SAFE.fullmatch(value) is not None


class Children(dict[tuple[str, ...], M], Generic[M]):
    """A metric's children by their label values. prometheus_client's own look-up takes a lock and 1.5 us."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        child: M = self._metric.labels(*values)
        self[values] = child
        return child


@dataclass(frozen=True)
class Described:
    """One row of docs/metrics.md."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class _ReadAtScrape(Collector):
    """A metric whose values are read when they are asked for."""

    def __init__(self, family: Callable[[], Metric], values: Callable[[], Mapping[str, float]]) -> None:
        self._family = family
        self.values = values

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        for label, value in self.values().items():
            family.add_metric([label] if label else [], value)
        yield family


class Metrics:
    """The process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        self._at_scrape: dict[str, _ReadAtScrape] = {}
        self.models = BoundedLabel(MAX_MODELS)
        self.tenants = BoundedLabel(MAX_TENANTS)
        self._declare_requests()
        self._declare_refusals()
        self._declare_process()
        ProcessCollector(registry=self.registry)

    def _declare_requests(self) -> None:
        self.requests = self._counter(
            "requests",
            "Requests ended, by outcome: ok, client_gone, or the error's code.",
            "route",
            "outcome",
        )
        self.served = self._counter(
            "tenant_requests", "Requests ended, by who asked for which model.", "tenant", "model", "result"
        )
        self.tokens = self._counter("tokens", "Tokens read and generated.", "direction", "tenant", "model")
        self.latency = self._histogram(
            "request_seconds", "From a request's head to its response's end.", _SECONDS, "route"
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds",
            "Of streams: from a request's head to the first token.",
            _SECONDS,
            "route",
            "model",
        )
        self.inter_token = self._histogram(
            "inter_token_seconds",
            "Mean gap between the tokens of one stream.",
            _GAP_SECONDS,
            "route",
            "model",
        )
        self.token_rate = self._histogram(
            "stream_tokens_per_second",
            "Tokens per second of one stream, from its first token to its last.",
            _TOKENS_PER_SECOND,
            "route",
            "model",
        )
        self.retried = self._counter("requests_retried", "Attempts after the first.", "reason")
        self.resumed = self._counter("requests_resumed", "Streams continued elsewhere.", "mode")
        self._gauge("in_flight", "Requests under way.")
        self._gauge("queued", "Requests that wait to be admitted.")
        self._gauge("concurrency_limit", "Requests that may wait for their first token at once.")
        self._gauge("limits_shared", "1 while limits are counted in Redis for all gateways together.")
        self._gauge("keys_stale", "1 while keys are in force although newer ones could not be used.")

    def _declare_refusals(self) -> None:
        self.limited = self._counter(
            "requests_limited", "Requests refused because a key's limit was reached.", "limit"
        )
        self.shed = self._counter("requests_shed", "Requests shed under overload.", "priority")
        self.auth_failures = self._counter(
            "auth_failures", "Requests refused for who asked, by reason.", "reason"
        )
        self.handler_failures = self._counter("handler_failures", "Requests that ended in a bug of ours.")

    def _declare_process(self) -> None:
        self._gauge("nodes", "Nodes that this process sends to, by state.", label="state")
        self._counted("ejections", "Times that a node was ejected for failing in a row.")
        self._gauge("drain_phase", "1 for the phase that the drain is in.", label="phase")
        self._gauge("engine_queued", "Requests that wait in the node's engine, by its own metrics.")
        self._gauge("engine_running", "Requests that the node's engine works on, by its own metrics.")
        self._gauge("engine_kv_used_ratio", "Share of the engine's KV cache in use, where it says so.")
        self.notices = self._counter("notices", "Notices seen, by kind.", "kind")
        self.spans = self._counter(
            "trace_spans", "Spans handed to the trace receiver, by what came of it.", "result"
        )
        self.scaling_metric = self._counter(
            "scaling_metric_puts", "Attempts to publish the scaling metric to CloudWatch.", "result"
        )
        self.node_metrics = self._counter(
            "node_metric_puts", "Attempts to publish the node's metrics to CloudWatch.", "result"
        )
        self.unlogged = self._counter("access_lines_dropped", "Access log lines over the rate limit.")

    def read(self, name: str, value: Callable[[], float]) -> None:
        """Read the declared metric `goldenfleet_<name>` from `value` at each scrape."""
        self.read_by_label(name, lambda: {"": value()})

    def read_by_label(self, name: str, values: Callable[[], Mapping[str, float]]) -> None:
        """As `read`, for a metric with one label: its values by that label's."""
        self._at_scrape[name].values = values

    def reading(self, name: str) -> float | None:
        """What `goldenfleet_<name>`, one that is read and has no label, is now; None if it says nothing."""
        return self._at_scrape[name].values().get("")

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        self._describe(f"{name}_total", "counter", labels, meaning)
        return Counter(f"goldenfleet_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self._describe(name, "histogram", labels, meaning)
        return Histogram(f"goldenfleet_{name}", meaning, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, meaning: str, label: str | None = None) -> None:
        labels = [label] if label else []
        self._describe(name, "gauge", labels, meaning)
        self._register(name, lambda: GaugeMetricFamily(f"goldenfleet_{name}", meaning, labels=labels), label)

    def _counted(self, name: str, meaning: str) -> None:
        self._describe(f"{name}_total", "counter", (), meaning)
        self._register(name, lambda: CounterMetricFamily(f"goldenfleet_{name}", meaning, labels=[]), None)

    def _register(self, name: str, family: Callable[[], Metric], label: str | None) -> None:
        # Until something is read, an unlabelled metric is 0 and a labelled one has no series.
        collector = _ReadAtScrape(family, lambda: {} if label else {"": 0.0})
        self._at_scrape[name] = collector
        self.registry.register(collector)

    def _describe(self, name: str, kind: str, labels: Sequence[str], meaning: str) -> None:
        self.described.append(Described(f"goldenfleet_{name}", kind, tuple(labels), meaning))


def document() -> str:
    """docs/metrics.md."""
    metrics = Metrics()
    rows = [*metrics.described, *_process_metrics()]
    lines = [
        f"| `{row.name}` | {row.kind} | {', '.join(f'`{label}`' for label in row.labels)} | {row.meaning} |"
        for row in rows
    ]
    return "\n".join([*_HEAD, *lines, ""])


def _process_metrics() -> Iterator[Described]:
    """What prometheus_client reads of this process from /proc."""
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        suffix = "_total" if family.type == "counter" else ""
        yield Described(family.name + suffix, family.type, (), family.documentation)


_HEAD = (
    "# Metrics",
    "",
    "`GET /metrics` on the admin port, in Prometheus' text format. Made from `server/metrics.py` by",
    "`python -m server.metrics > docs/metrics.md`; a test fails when this page is behind.",
    "",
    f"`model` and `tenant` are bounded: the first {MAX_MODELS} models that answered a request and the first",
    f"{MAX_TENANTS} tenants that were authenticated have series of their own, all others are `{OTHER}`.",
    "Histograms also have `_bucket`, `_count` and `_sum`.",
    "",
    "| metric | type | labels | meaning |",
    "|---|---|---|---|",
)


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201  the page goes to standard output
