"""What a node tells CloudWatch about itself, as an emulated CloudWatch gets it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from prometheus_client import Counter

from server import node_metrics
from server.metrics import Metrics
from server.node_metrics import NodeMetrics, NodeState, Reading, metric_data, read
from server.scaling_metric import NAMESPACE, Series
from server.telemetry import open_log

NOW = 1_800_000_000.0
AT = datetime.fromtimestamp(NOW, UTC)
SERIES = Series("prod", "gateway")
SERVING = NodeState("gateway", "spot", draining=False)


def collectors(metrics: Metrics) -> tuple[Any, ...]:
    return metrics.served, metrics.retried, metrics.resumed, metrics.notices, metrics.first_token


def values(data: list[dict[str, Any]]) -> dict[str, float]:
    return {datum["MetricName"]: datum["Value"] for datum in data if "Value" in datum}


def test_counts_are_what_came_since_the_last_put() -> None:
    """Over all tenants, models and reasons; the Sum over nodes is then the tier's."""
    metrics = Metrics()
    metrics.served.labels("a", "m", "ok").inc(3)
    metrics.served.labels("a", "m", "failed").inc()
    before = read(collectors(metrics), 0.0)
    metrics.served.labels("b", "n", "ok").inc(2)
    metrics.served.labels("b", "n", "gone").inc(9)
    metrics.resumed.labels("tokens").inc()
    metrics.notices.labels("spot").inc()
    told = values(metric_data(SERIES, SERVING, before, read(collectors(metrics), 0.0), AT))
    assert told["RequestsOk"] == 2
    assert told["RequestsFailed"] == 0
    assert told["RequestsResumed"] == told["Notices"] == 1


def test_nodes_are_told_by_purchase_option() -> None:
    """By the minutes since the last put: their Sum over five minutes is five for each node, also in a drain.

    Off EC2 nobody knows the option, and nothing is claimed.
    """
    data = metric_data(SERIES, SERVING, Reading(2.0), Reading(2.5), AT)
    [datum] = [d for d in data if d["MetricName"] == "NodeMinutes"]
    assert datum["Value"] == 0.5
    assert {d["Name"]: d["Value"] for d in datum["Dimensions"]} == {
        "Stack": "prod",
        "Tier": "gateway",
        "PurchaseOption": "spot",
    }
    unknown = metric_data(SERIES, NodeState("gateway", None, draining=False), Reading(), Reading(), AT)
    assert "NodeMinutes" not in values(unknown)


def test_a_drain_shows() -> None:
    """So that a dashboard tells nodes that serve from nodes that go."""
    for draining in (False, True):
        state = NodeState("model", "on-demand", draining=draining)
        told = values(metric_data(SERIES, state, Reading(), Reading(), AT))
        assert told["NodesDraining"] == draining


def test_model_nodes_tell_nothing_of_clients() -> None:
    """Each request is counted once, at the gateway; series cost money."""
    reading = Reading(0.0, {"RequestsOk": 5}, {0.1: 5})
    data = metric_data(SERIES, NodeState("model", "spot", draining=False), Reading(), reading, AT)
    assert {datum["MetricName"] for datum in data} == {"NodeMinutes", "NodesDraining", "Notices"}


def test_first_tokens_are_a_distribution() -> None:
    """Each stream since the last put, at its bucket's bound; beyond the last bucket at that one's."""
    metrics = Metrics()
    metrics.first_token.labels("chat", "m").observe(0.001)
    before = read(collectors(metrics), 0.0)
    bounds = sorted(before.first_token)
    for model, seconds in (("m", bounds[1]), ("n", bounds[1]), ("m", 1e9)):
        metrics.first_token.labels("chat", model).observe(seconds)
    data = metric_data(SERIES, SERVING, before, read(collectors(metrics), 0.0), AT)
    [datum] = [d for d in data if d["MetricName"] == "TimeToFirstToken"]
    assert dict(zip(datum["Values"], datum["Counts"], strict=True)) == {bounds[1]: 2, bounds[-1]: 1}
    assert datum["Unit"] == "Seconds"


def test_no_streams_no_distribution() -> None:
    """An empty list of values is refused by CloudWatch."""
    assert not [d for d in metric_data(SERIES, SERVING, Reading(), Reading(), AT) if "Values" in d]


@pytest.fixture
def cloudwatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    point_at(monkeypatch, f"http://{host}:{port}")
    client = boto3.client("cloudwatch")
    yield client
    client.close()
    server.stop()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "canary-id",
        "AWS_SECRET_ACCESS_KEY": "canary-key",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


class Publishing:
    """A node's metrics with a clock that the sleeps move, until it has put `rounds` times."""

    def __init__(self, rounds: int, drains_after: float = float("inf")) -> None:
        self.now = NOW
        self.rounds = rounds
        self.file = io.StringIO()
        self.counted = Metrics()
        self.enough = asyncio.Event()
        self.metrics = NodeMetrics(
            SERIES,
            collectors(self.counted),
            lambda: NodeState("gateway", "spot", draining=self.now >= NOW + drains_after),
            region=None,
            puts=self.counted.node_metrics,
            log=open_log(role="gateway", instance_id="i-1", file=self.file),
            rng=Random(3),
            wall_clock=lambda: self.now,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        if self.puts("sent") + self.puts("failed") >= self.rounds:
            self.enough.set()
            await asyncio.Event().wait()
        self.now += seconds
        # As a counter between two readings.
        self.counted.served.labels("a", "m", "failed").inc()

    def puts(self, result: str) -> float:
        name = "goldenfleet_node_metric_puts_total"
        return self.counted.registry.get_sample_value(name, {"result": result}) or 0.0

    async def run(self) -> None:
        async with asyncio.timeout(30):
            task = asyncio.create_task(self.metrics.run())
            await self.enough.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def total(cloudwatch: Any, metric: str) -> float:
    points = cloudwatch.get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=metric,
        Dimensions=[{"Name": "Stack", "Value": "prod"}, {"Name": "Tier", "Value": "gateway"}],
        StartTime=AT - timedelta(hours=1),
        EndTime=AT + timedelta(hours=1),
        Period=7200,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(float(point["Sum"]) for point in points)


async def test_cloudwatch_adds_up_what_was_counted(cloudwatch: Any) -> None:
    """Nothing twice, nothing left out."""
    publishing = Publishing(rounds=3)
    await publishing.run()
    assert publishing.puts("sent") == 3
    seconds = publishing.now - NOW
    assert 108 <= seconds <= 145
    assert (
        total(cloudwatch, "RequestsFailed")
        == publishing.counted.served.labels("a", "m", "failed")._value.get()
    )  # the counter's own reading


async def test_a_draining_node_tells_every_ten_seconds(cloudwatch: Any) -> None:
    """It has two minutes at most."""
    publishing = Publishing(rounds=4, drains_after=5)
    await publishing.run()
    assert publishing.now - NOW <= 3 * 11


async def test_what_could_not_be_put_comes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are counted, the first is logged, and no key is."""
    point_at(monkeypatch, "http://127.0.0.1:1")
    publishing = Publishing(rounds=2)
    await publishing.run()
    assert publishing.puts("failed") == 2
    lines = [json.loads(line) for line in publishing.file.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["node_metrics.failing"]
    assert "canary" not in publishing.file.getvalue()


def test_names_are_cloudwatch_names() -> None:
    """Each is one word, and no two are the same."""
    names = [
        value
        for name, value in vars(node_metrics).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_") and name != "NAMESPACE"
    ]
    assert len(set(names)) == len(names)
    assert all(name.isalpha() for name in names)
    assert isinstance(Metrics().node_metrics, Counter)
