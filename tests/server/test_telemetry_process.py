"""One whole process that traces, publishes its load, and keeps its admin port to itself."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from moto.server import ThreadedMotoServer

from server import node_metrics, scaling_metric
from tests.server.otlp import Receiver, attributes, receiving

PATIENCE_S = 40.0
SECRET = "Basic cGstY2FuYXJ5OnNrLWNhbmFyeQ"
_addresses = itertools.count(4)


def told_of(pid: int) -> list[bytes]:
    """What others on the machine may read of a process: its arguments and its environment."""
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]


@dataclass
class Process:
    child: asyncio.subprocess.Process
    address: str
    session: aiohttp.ClientSession

    async def get(self, port: int, path: str, method: str = "GET") -> tuple[int, str]:
        async with self.session.request(method, f"http://{self.address}:{port}{path}") as response:
            return response.status, await response.text()

    async def started(self) -> None:
        assert self.child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while b'"server.started"' not in (line := await self.child.stdout.readline()):
                assert line, "the process ended before it started"

    async def stopped(self) -> str:
        """All that it said, after SIGTERM."""
        self.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            said, complained = await self.child.communicate()
        assert self.child.returncode == 0
        return (said + complained).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def aws() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    server.stop()


@pytest.fixture
async def process(receiver: Receiver, aws: dict[str, str], tmp_path: Path) -> AsyncIterator[Process]:
    headers = tmp_path / "headers"
    headers.write_text(f"Authorization={SECRET}")
    headers.chmod(0o600)
    address = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{200 + next(_addresses)}"
    settings = {
        "ADDRESS": address,
        "NODES": "static:127.0.0.1:1",
        "AUTH": "off",
        "IMDS_ENDPOINT": "off",
        "TRACES_URL": receiver.url,
        "TRACES_HEADERS": f"file:{headers}",
        "SCALING_METRIC": "on",
        "SCALING_METRIC_SECONDS": "0.1",
        "NODE_METRICS": "on",
        "SHUTDOWN_GRACE_SECONDS": "0.2",
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server", "--role", "gateway", "--stack", "telling"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], **aws, **{f"GOLDENFLEET_{k}": v for k, v in settings.items()}},
    )
    async with aiohttp.ClientSession() as session:
        process = Process(child, address, session)
        await process.started()
        yield process
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.communicate()


async def test_a_process_tells_its_receivers_and_nobody_else(
    process: Process, receiver: Receiver, aws: dict[str, str]
) -> None:
    """Load to CloudWatch, traces to their receiver, also the last; and the receiver's key is nowhere else."""
    for metric in (scaling_metric.METRIC, node_metrics.FAILED):
        await _until_published(aws, metric)
    status, _ = await process.get(8080, "/v1/nothing")
    assert status == 404
    async with process.session.post(f"http://{process.address}:8080/v1/chat/completions", data=b"{") as got:
        assert got.status == 400
    told = told_of(process.child.pid)
    said = await process.stopped()
    [span] = receiver.spans
    assert attributes(span)["goldenfleet.outcome"] == "invalid_request"
    assert receiver.headers[0]["authorization"] == SECRET
    for place in (*told, said.encode(), bytes(receiver.raw)):
        assert SECRET.encode() not in place


async def test_the_serving_port_knows_nothing_of_the_admin_port(process: Process) -> None:
    """Metrics, state and drain are on their own port; there the state shows nodes and limits."""
    for method, path in (("GET", "/metrics"), ("GET", "/state"), ("POST", "/drain"), ("POST", "/undrain")):
        status, text = await process.get(8080, path, method)
        assert (status, '"not_found"' in text) == (404, True)
    status, metrics = await process.get(9090, "/metrics")
    assert status == 200
    assert 'goldenfleet_drain_phase{phase="serving"} 1.0' in metrics
    assert "goldenfleet_concurrency_limit" in metrics
    status, state = await process.get(9090, "/state")
    assert '"address":"127.0.0.1:1"' in state
    assert '"concurrency_limit":' in state


def test_what_is_switched_off_is_not_loaded() -> None:
    """A process that traces nothing starts without the SDK, and without boto3 and redis, in half the time."""
    program = "import server.process, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    ).stdout
    assert "aiohttp" in loaded.split()
    assert not {"opentelemetry", "boto3", "redis"} & set(loaded.split())


async def _until_published(aws: dict[str, str], metric: str) -> None:
    dimensions = [{"Name": "Stack", "Value": "telling"}, {"Name": "Tier", "Value": "gateway"}]

    def listed() -> list[Any]:
        client = boto3.client(
            "cloudwatch",
            endpoint_url=aws["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        found = client.list_metrics(
            Namespace=scaling_metric.NAMESPACE, MetricName=metric, Dimensions=dimensions
        )["Metrics"]
        client.close()
        return found

    async with asyncio.timeout(PATIENCE_S):
        while not (metrics := await asyncio.to_thread(listed)):  # noqa: ASYNC110  AWS has no event for it
            await asyncio.sleep(0)
    assert [found["Dimensions"] for found in metrics] == [dimensions]
