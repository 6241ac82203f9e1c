"""Thousands of requests that go well and badly: afterwards everything is as it was before."""

import asyncio
import gc
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.server.fuzz.cases import MORE, PATIENCE_S
from tests.server.fuzz.conftest import Troubles

KEY = "gf_soak-key-that-is-long-enough-for-128-bits"
AT_ONCE = 24
ROUNDS = max(2, int(2 * MORE))
UNARY, STREAMS = 1000, 200
# What may grow: logs are taken away, so little more than the allocator's own.
TOLERANCE_BYTES = 256 * 1024
TOKENS = 6


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


class Clients:
    """Ask for everything there is, and now and then leave."""

    def __init__(self, gateway: Any, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session
        self.number = 0

    async def round(self) -> None:
        """One round's requests, AT_ONCE at a time. What each does depends on its number alone."""
        kinds = [self.unary] * UNARY + [self.stream] * STREAMS
        Random(7).shuffle(kinds)
        todo = iter(kinds)

        async def work() -> None:
            for kind in todo:
                self.number += 1
                await kind(Random(self.number % (UNARY + STREAMS)))

        async with asyncio.timeout(PATIENCE_S * 3), asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())

    async def unary(self, rng: Random) -> None:
        path, body = rng.choice(
            [
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
                ("/v1/completions", {"prompt": "x", "model": f"model-{rng.random()}"}),
                ("/v1/completions", {"prompt": "x", "max_tokens": "no"}),
                ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": TOKENS}}),
                ("/nowhere", {}),
            ]
        )
        key = rng.choice((KEY, KEY, KEY, f"gf_not-a-key-{rng.random()}-{'x' * 20}"))
        await self.ask(path, body, key, leaves=rng.random() < 0.1)

    async def stream(self, rng: Random) -> None:
        body = {"prompt": "x", "max_tokens": TOKENS, "stream": True, "stop": rng.choice(([], ["zz"]))}
        await self.ask("/v1/completions", body, KEY, leaves=rng.random() < 0.2)

    async def ask(self, path: str, body: Any, key: str, *, leaves: bool) -> None:
        headers = {"authorization": f"Bearer {key}"}
        with suppress(aiohttp.ClientError):
            async with self.session.post(self.gateway.url + path, json=body, headers=headers) as response:
                if leaves:
                    await response.content.readany()
                    response.close()
                    return
                await response.read()


def sick_plans(plan: Any, rng: Random) -> list[Any]:
    """What engines do wrong in a round, between much that they do right."""
    bad = [
        plan(tokens=2, end="reset"),
        plan(tokens=3, end="eof"),
        plan(tokens=1, end="half"),
        plan(tokens=2, end="garbage"),
        plan(status=503),
        plan(status=500),
        plan(status=400),
        plan(end="reset"),
    ]
    plans = [plan()] * (UNARY // 4) + bad * (UNARY // 80)
    rng.shuffle(plans)
    return plans


def sizes(gateway: Any) -> dict[str, int]:
    """Everything that is counted of requests under way."""
    fleet, entrance = gateway.app._fleet, gateway.app._entrance
    slots, counts = entrance.admission._slots, entrance.admission._counts
    return {
        "clients": gateway.server.connections,
        "running": gateway.drain.running,
        "on nodes": sum(node.in_flight for node in gateway.nodes.nodes) + fleet.nodes._in_flight,
        "watches": sum(len(node.watches) for node in gateway.nodes.nodes),
        "held": len(fleet.nodes._waiters),
        "places": slots.in_use,
        "queued": slots.waiting,
        "owners": len(counts._running),
        "budget": fleet.budget._under_way,
        "scopes": len(gateway.app._handover._running),
        "busy upstream": fleet.pool.open - fleet.pool.idle,
    }


async def test_nothing_is_left_behind(
    stage: Any, plan: Any, until: Any, troubles: Troubles, traced: None, write_keys: Any
) -> None:
    """Memory, sockets, tasks and all that is counted return to what they were after the first round."""
    engines = [await stage.engine() for _ in range(3)]
    limits = {"requests_per_minute": 1_000_000, "tokens_per_minute": 100_000_000, "concurrency": 1000}
    gateway = await stage.gateway(
        *(engine.address for engine in engines),
        auth="on",
        keys=write_keys({"key": KEY, "limits": limits}),
        auth_failures_per_minute=1_000_000,
        retry_budget=1.0,
        retry_budget_minimum=1000,
    )
    seen: list[tuple[int, int, int]] = []
    for _ in range(ROUNDS + 1):
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            for engine in engines:
                engine.plans = sick_plans(plan, Random(engine.address))
            await Clients(gateway, session).round()
        await until(lambda: not any(sizes(gateway).values()))
        seen.append(await quiet(gateway, engines, until))
    memory, sockets, tasks = zip(*seen, strict=True)
    assert max(memory[1:]) - memory[1] < TOLERANCE_BYTES, seen
    assert max(sockets[1:]) - sockets[1] <= 64 * len(engines), seen
    assert len(set(tasks)) == 1, seen


async def quiet(gateway: Any, engines: list[Any], until: Any) -> tuple[int, int, int]:
    """Bytes, file descriptors and tasks, once nothing is under way and what tests keep is let go."""
    await until(lambda: all(engine.running == 0 for engine in engines))
    for engine in engines:
        engine.plans.clear()
        engine.asked.clear()
        engine.heads.clear()
    assert gateway.events("request.failed") == []
    assert gateway.events("request.resumed")
    gateway.log_lines.seek(0)
    gateway.log_lines.truncate()
    gc.collect()
    return tracemalloc.get_traced_memory()[0], len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
