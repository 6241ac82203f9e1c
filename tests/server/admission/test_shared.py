"""Limits that gateways share, against a real Redis; and what happens without it."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from server.admission.limits import LocalMeter, Rate
from server.admission.shared import SharedMeter

REQUESTS, TOKENS = Rate("{a}:requests", "requests", 60), Rate("{a}:tokens", "tokens", 6000)
PASSWORD = "canary-password"
PATIENCE_S = 20.0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = info


class Server:
    """A redis-server of our own."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--requirepass", PASSWORD, "--dir", str(self.directory)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        with redis.Redis.from_url(self.url) as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.RedisError:
                    continue
                return
        raise AssertionError("redis-server does not answer")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed; Debian's package redis-server has it")
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def server(running: Server) -> Server:
    if running.process is None:
        running.start()
    with redis.Redis.from_url(running.url) as client:
        client.flushall()
    return running


@pytest.fixture
async def make(server: Server) -> AsyncIterator[Callable[[], SharedMeter]]:
    made: list[SharedMeter] = []

    def meter() -> SharedMeter:
        clock = Clock()
        # Patient, for a busy machine must not look like an outage.
        made.append(SharedMeter(server.url, LocalMeter(clock), clock, Log(), timeout_s=PATIENCE_S))
        return made[-1]

    yield meter
    for item in made:
        await item.aclose()


async def test_gateways_count_together(make: Any) -> None:
    """What one lets in, the other has no longer: 60 of 80 pass, whoever is asked."""
    meters = [make(), make()]
    waits = [(await meters[number % 2].take([REQUESTS], 0)).wait_s for number in range(80)]
    # Redis' own clock runs while they ask: one a second comes back.
    assert 60 <= sum(wait == 0 for wait in waits) <= 60 + PATIENCE_S
    assert waits[:60] == [0] * 60


async def test_many_at_once_are_counted_once_each(make: Any) -> None:
    """A script is one step: two gateways cannot both take the last."""
    meters = [make(), make()]
    verdicts = await asyncio.gather(*(meters[number % 2].take([REQUESTS], 0) for number in range(100)))
    assert 60 <= sum(verdict.wait_s == 0 for verdict in verdicts) <= 60 + PATIENCE_S


async def test_a_refusal_takes_nothing_and_says_for_what(make: Any) -> None:
    """As the local count does."""
    meter = make()
    await meter.take([REQUESTS, TOKENS], 6000)
    refused = await meter.take([REQUESTS, TOKENS], 5000)
    assert (refused.reached, refused.wait_s > 0) == ("tokens", True)
    left = (await meter.take([REQUESTS], 0)).left
    assert left[0].level >= 58


async def test_what_an_answer_cost_is_paid_with_the_next_request_or_alone(make: Any) -> None:
    """Debts reach Redis, where the other gateway meets them."""
    mine, other = make(), make()
    mine.charge([REQUESTS, TOKENS], 9000)
    assert (await other.take([TOKENS], 1)).wait_s == 0
    await mine.flush()
    assert (await other.take([TOKENS], 1)).wait_s > 1
    mine.charge([TOKENS], -9000)
    assert (await mine.take([TOKENS], 1)).wait_s == 0


async def test_a_refused_request_still_pays_debts(make: Any) -> None:
    """Or who is refused once would be let in for ever after."""
    meter = make()
    meter.charge([TOKENS], 12_000)
    first = await meter.take([TOKENS], 1)
    second = await meter.take([TOKENS], 1)
    assert first.wait_s > 55
    assert second.wait_s > 50


async def test_keys_in_redis_end(make: Any, server: Server) -> None:
    """A bucket that is full again need not be remembered."""
    await make().take([REQUESTS, TOKENS], 6000)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        lives = {key: client.ttl(key) for key in client.keys("*")}
    assert set(lives) == {"goldenfleet:limits:{a}:requests", "goldenfleet:limits:{a}:tokens"}
    assert all(0 < life <= 180 for life in lives.values())


async def test_without_redis_each_gateway_counts_by_itself(make: Any, server: Server) -> None:
    """Nobody is refused for the outage, limits still hold, it is told once, and ends with the outage."""
    meter = make()
    clock, log = meter._clock, meter._log
    assert (await meter.take([REQUESTS], 0)).wait_s == 0
    server.stop()
    waits = [(await meter.take([REQUESTS], 0)).wait_s for _ in range(61)]
    assert [wait == 0 for wait in waits] == [True] * 60 + [False]
    assert not meter.available
    assert [event for event, _ in log.lines] == ["limits.shared_lost"]
    server.start()
    assert (await meter.take([REQUESTS], 0)).wait_s > 0
    clock.now += 5
    assert (await meter.take([REQUESTS], 0)).wait_s == 0
    assert meter.available
    assert [event for event, _ in log.lines] == ["limits.shared_lost", "limits.shared_back"]
    assert PASSWORD not in repr(log.lines)


async def test_debts_outlast_an_outage(make: Any, server: Server) -> None:
    """They are paid when Redis is back."""
    meter = make()
    server.stop()
    meter.charge([TOKENS], 12_000)
    await meter.flush()
    server.start()
    meter._clock.now += 5
    await meter.flush()
    assert (await make().take([TOKENS], 1)).wait_s > 50


async def test_a_long_outage_is_not_paid_for_longer_than_a_minute(make: Any, server: Server) -> None:
    """What was let in meanwhile was within the gateway's own limit; ten minutes of it are no debt of ten."""
    meter = make()
    server.stop()
    await meter.take([TOKENS], 1)
    for _ in range(10):
        meter.charge([TOKENS], TOKENS.capacity)
    server.start()
    meter._clock.now += 5
    await meter.flush()
    assert 30 < (await make().take([TOKENS], 1)).wait_s <= 61


async def test_debts_of_an_outage_are_bounded_in_number() -> None:
    """However many owners there are while Redis is away, those of ten thousand are kept."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        meter = SharedMeter(f"redis://127.0.0.1:{sock.getsockname()[1]}", LocalMeter(Clock()), Clock(), Log())
        await meter.take([TOKENS], 1)
        for number in range(10_050):
            meter.charge([Rate(f"{{{number}}}:tokens", "tokens", 60)], 1)
        assert meter.owing == 10_000
        await meter.aclose()


async def test_a_redis_that_does_not_answer_costs_a_quarter_of_a_second_at_most() -> None:
    """Once in five seconds: the request that finds out waits, others do not."""
    clock, log = Clock(), Log()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        meter = SharedMeter(f"redis://127.0.0.1:{silent.getsockname()[1]}", LocalMeter(clock), clock, log)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(60):
                assert (await meter.take([REQUESTS], 0)).wait_s == 0
        assert [event for event, _ in log.lines] == ["limits.shared_lost"]
        await meter.aclose()
