"""The scaling metric, as an emulated CloudWatch gets it."""

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from random import Random
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from server import scaling_metric
from server.scaling_metric import InFlightMeter, ScalingMetric, Series, metric_data
from server.telemetry import Telemetry, open_log

NOW = 1_800_000_000.0


@pytest.fixture
def cloudwatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an emulated CloudWatch, which the environment names to everybody."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("cloudwatch")
    yield client
    client.close()
    server.stop()


class Publishing:
    """A metric that publishes `rounds` times, with a clock that the sleeps move."""

    def __init__(self, series: Series, readings: list[int], rounds: int, interval_s: float = 60.0) -> None:
        self.now = NOW
        self.slept: list[float] = []
        self.file = io.StringIO()
        self.telemetry = Telemetry(open_log(role="model", instance_id="i-1", file=self.file))
        self.rounds = rounds
        self.metric = ScalingMetric(
            series,
            lambda: readings[len(self.slept) % len(readings)],
            region=None,
            interval_s=interval_s,
            puts=self.telemetry.metrics.scaling_metric,
            log=self.telemetry.log,
            rng=Random(3),
            wall_clock=lambda: self.now,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        if self.published >= self.rounds:
            await asyncio.Event().wait()
        self.slept.append(seconds)
        self.now += seconds

    def puts(self, result: str) -> float:
        registry = self.telemetry.metrics.registry
        return registry.get_sample_value("goldenfleet_scaling_metric_puts_total", {"result": result}) or 0.0

    @property
    def published(self) -> float:
        return self.puts("sent") + self.puts("failed")

    async def run(self) -> None:
        """Until it has published, or failed to, as often as it was to."""
        async with asyncio.timeout(30):
            task = asyncio.create_task(self.metric.run())
            while self.published < self.rounds:  # noqa: ASYNC110  a counter has no event
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_tier_s_average_is_requests_per_node(cloudwatch: Any) -> None:
    """Two nodes publish; the average over the tier is what target tracking compares with its target."""
    for readings in ([2, 4], [9]):
        publishing = Publishing(Series("tracked", "model", "asg-1"), readings, rounds=1)
        await publishing.run()
        assert publishing.puts("sent") == 1
    tier = [{"Name": "Stack", "Value": "tracked"}, {"Name": "Tier", "Value": "model"}]
    for dimensions in (tier, [*tier, {"Name": "AutoScalingGroupName", "Value": "asg-1"}]):
        points = cloudwatch.get_metric_statistics(
            Namespace=scaling_metric.NAMESPACE,
            MetricName=scaling_metric.METRIC,
            Dimensions=dimensions,
            StartTime=datetime.fromtimestamp(NOW - 3600, UTC),
            EndTime=datetime.fromtimestamp(NOW + 3600, UTC),
            Period=7200,
            Statistics=["Average", "SampleCount"],
        )["Datapoints"]
        count = sum(point["SampleCount"] for point in points)
        total = sum(point["Average"] * point["SampleCount"] for point in points)
        assert count >= 2
        assert total / count == pytest.approx((3 + 9) / 2, abs=0.1)


async def test_cloudwatch_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure is counted, the first is logged, and the next interval tries again."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "canary-id",
        "AWS_SECRET_ACCESS_KEY": "canary-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    publishing = Publishing(Series("prod", "model"), [1], rounds=2)
    await publishing.run()
    assert publishing.puts("failed") == 2
    lines = [json.loads(line) for line in publishing.file.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["scaling_metric.failing"]
    assert lines[0]["problem"] == "EndpointConnectionError"
    assert "canary" not in publishing.file.getvalue()


async def test_nodes_do_not_publish_in_step(cloudwatch: Any) -> None:
    """Each interval is another, within a tenth of what was set."""
    publishing = Publishing(Series("prod", "model"), [1], rounds=3, interval_s=30.0)
    await publishing.run()
    intervals = [sum(same) for _, same in groupby(publishing.slept)]
    assert len(set(intervals)) == 3
    assert all(27 <= seconds <= 33.1 for seconds in intervals)


def test_what_comes_and_goes_between_two_readings_is_seen() -> None:
    """The mean of samples, and a fresh start after each reading."""
    running = [0]
    meter = InFlightMeter(lambda: running[0])
    for running[0] in (0, 10, 20):
        meter.sample()
    running[0] = 4
    assert meter.read() == 10
    assert meter.read() == 4


@pytest.mark.parametrize(("interval_s", "resolution"), [(60, 60), (120, 60), (59, 1), (10, 1)])
def test_only_short_intervals_pay_for_high_resolution(interval_s: float, resolution: int) -> None:
    """Below a minute CloudWatch keeps seconds, and charges for their alarms."""
    [datum] = metric_data(Series("prod", "model"), 1.0, datetime.now(UTC), interval_s)
    assert datum["StorageResolution"] == resolution
