"""Nodes and engines that stand still, and go on: what their requests and their gateways make of it."""

import asyncio
from random import Random
from typing import Any

import pytest

from server.probe import Prober
from server.retry import calm_s
from server.telemetry import open_log
from server.upstreams import NodeSet

COMPLETION = {"prompt": "hello", "max_tokens": 9}
# What a stopped process looks like within a test's time.
QUICK = {"suspect_seconds": 0.05, "probe_seconds": 0.2}


def silent(gateway: Any) -> int:
    return int(gateway.nodes.counts()["silent"])


@pytest.mark.parametrize("stream", [True, False])
async def test_nodes_that_stand_still_in_turn_cost_no_request(
    stage: Any, plan: Any, until: Any, stream: bool
) -> None:
    """A node that answers again was not hung by the request: the third does not end it."""
    engines = [await stage.engine(plan(end="stall")) for _ in range(3)]
    gateway = await stage.gateway(*(engine.address for engine in engines), **QUICK)
    task = asyncio.create_task(gateway.post("/v1/completions", COMPLETION | {"stream": stream}))
    await until(lambda: silent(gateway) == 3)
    left = {node.id for node in gateway.nodes.nodes if not node.in_flight}
    next(engine for engine in engines if engine.address in left).awake.set()
    got = await task
    assert (got.status, got.clean) == (200, True)
    assert [event["reason"] for event in gateway.events("request.retried")] == ["silent"] * 3
    for engine in engines:
        engine.awake.set()


async def test_nodes_stand_still_many_times_under_one_stream(stage: Any, plan: Any, until: Any) -> None:
    """More than three times without a token in between, and with one node well at a time."""
    engines = [await stage.engine(*[plan(end="stall")] * 2) for _ in range(2)]
    gateway = await stage.gateway(*(engine.address for engine in engines), **QUICK)
    task = asyncio.create_task(gateway.post("/v1/completions", COMPLETION | {"stream": True}))
    for lap in range(4):
        [asked] = [engine for engine in engines if not engine.awake.is_set()] if lap else [None]
        await until(lambda: sum(len(engine.asked) for engine in engines) > lap)  # noqa: B023
        if asked is not None:
            asked.awake.set()
    for engine in engines:
        engine.awake.set()
    assert (await task).data[-1] == "[DONE]"


async def test_a_request_that_hangs_nodes_hangs_three_of_them(stage: Any, plan: Any) -> None:
    """While they do not come back it waits for them, and is then told so in words."""
    engines = [await stage.engine(default=plan(end="stall")) for _ in range(5)]
    gateway = await stage.gateway(*(engine.address for engine in engines), **QUICK)
    got = await gateway.post("/v1/completions", COMPLETION, {"x-request-timeout-ms": "2500"})
    assert (got.status, got.error["code"]) == (503, "no_node_ready")
    assert sum(len(engine.asked) for engine in engines) == 3
    for engine in engines:
        engine.awake.set()


async def test_an_engine_behind_a_node_may_stand_still_and_go_on(stage: Any, plan: Any, until: Any) -> None:
    """With no other place to go its streams stay where they are: the node says so, and ends nothing."""
    engine = await stage.engine(plan(tokens=3, end="stall"))
    node = await stage.node(engine.address, **QUICK)
    gateway = await stage.gateway(node.address, **QUICK)
    task = asyncio.create_task(gateway.post("/v1/completions", COMPLETION | {"stream": True}))
    await until(lambda: silent(gateway) == 1)
    engine.awake.set()
    got = await task
    assert (len(got.text), got.data[-1]) == (9, "[DONE]")
    assert not gateway.events("request.resumed")
    await until(lambda: silent(gateway) == 0)


async def test_a_node_whose_engine_stands_still_says_so(stage: Any, plan: Any, until: Any) -> None:
    """To who asks for an answer and to who asks for its health, until the engine answers again."""
    stalled, well = await stage.engine(plan(end="stall")), await stage.engine()
    node, other = await stage.node(stalled.address, **QUICK), await stage.node(well.address, **QUICK)
    hanging = asyncio.create_task(node.post("/v1/completions", COMPLETION))
    await until(lambda: silent(node) == 1)
    got = await node.post("/v1/completions", COMPLETION)
    health = await node.ask("GET", "/health")
    assert (got.status, got.error["code"]) == (503, "engine_silent")
    assert (health.status, health.headers["x-goldenfleet-state"]) == (200, "silent")
    gateway = await stage.gateway(
        node.address, other.address, retry_budget=0, retry_budget_minimum=0, **QUICK
    )
    async with asyncio.timeout(15):
        while not gateway.events("request.retried"):
            assert (await gateway.post("/v1/completions", COMPLETION)).status == 200
    assert {(await gateway.post("/v1/completions", COMPLETION)).status for _ in range(4)} == {200}
    assert [event["reason"] for event in gateway.events("request.retried")] == ["engine_silent"]
    stalled.awake.set()
    assert (await hanging).status == 200
    await until(lambda: silent(gateway) == 0)
    assert "x-goldenfleet-state" not in (await node.ask("GET", "/health")).headers


async def test_a_node_leaves_it_to_its_gateway_to_take_work_from_a_live_engine(
    stage: Any, plan: Any, until: Any
) -> None:
    """It knows of no better place, and a stream with logprobs, cut for being slow, would be lost."""
    engine = await stage.engine()
    node = await stage.node(engine.address, stall_seconds=0.01, suspect_seconds=0.01)
    body = COMPLETION | {"stream": True}
    for _ in range(25):
        assert (await node.post("/v1/completions", body)).status == 200
    engine.plans = [plan(tokens=4, end="hang")]
    task = asyncio.create_task(node.post("/v1/completions", body | {"logprobs": 1}))
    [watched] = node.nodes.nodes
    await until(lambda: watched.lived_at > 0)
    asked_first = watched.lived_at
    # A second question is a second of patience, a hundred times what was learned.
    await until(lambda: watched.lived_at > asked_first)
    assert engine.running == 1
    engine.release.set()
    await task


async def test_work_of_a_node_that_discovery_lost_while_it_stood_still_is_moved(
    stage: Any, plan: Any, until: Any
) -> None:
    """There was no other place when it fell silent; there is one when it has gone from the list."""
    stalled, well = await stage.engine(plan(tokens=3, end="stall")), await stage.engine()
    gateway = await stage.gateway(stalled.address, nodes_poll_seconds=600, **QUICK)
    task = asyncio.create_task(gateway.post("/v1/completions", COMPLETION | {"stream": True}))
    await until(lambda: silent(gateway) == 1)
    gateway.nodes.replace(well.found)
    got = await task
    assert (len(got.text), got.data[-1]) == (9, "[DONE]")
    assert [event["reason"] for event in gateway.events("request.resumed")] == ["silent"]
    stalled.awake.set()


async def test_a_probe_that_we_slept_through_says_nothing(stage: Any) -> None:
    """On a full machine it may be the gateway that did not run: the answer is there, and unread."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 10
        return now

    engine = await stage.engine()
    engine.awake.clear()
    nodes = NodeSet(stage.rng, clock)
    nodes.replace(engine.found)
    [node] = nodes.nodes
    prober = Prober(
        nodes, probe_s=0.05, log=open_log(role="gateway", instance_id="i-test"), rng=stage.rng, clock=clock
    )
    async with asyncio.timeout(15):
        await prober._find_out(node)
    assert not node.silent
    engine.awake.set()
    await prober.aclose()


async def test_one_standstill_does_not_eject_a_node(stage: Any, plan: Any, until: Any) -> None:
    """All its requests are cut at once, which says no more than that it stood still."""
    stalled, well = await stage.engine(default=plan(tokens=3, end="stall")), await stage.engine()
    gateway = await stage.gateway(stalled.address, **QUICK)
    body = COMPLETION | {"stream": True}
    tasks = [asyncio.create_task(gateway.post("/v1/completions", body)) for _ in range(8)]
    await until(lambda: silent(gateway) == 1)
    gateway.nodes.replace(stalled.found | well.found)
    assert {answer.data[-1] for answer in await asyncio.gather(*tasks)} == {"[DONE]"}
    assert len(gateway.events("request.resumed")) + len(gateway.events("request.retried")) >= 5
    stalled.default = plan()
    stalled.awake.set()
    await until(lambda: silent(gateway) == 0)
    assert gateway.nodes.ejected == 0


def test_a_starved_fleet_is_left_alone_for_longer_each_time() -> None:
    """Two moves are made at once; then waits double up to eight seconds, half of each by chance."""
    rng = Random(3)
    assert [calm_s(silences, rng) for silences in (0, 1, 2)] == [0.0, 0.0, 0.0]
    for silences, most in ((3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (60, 8.0)):
        waits = [calm_s(silences, rng) for _ in range(200)]
        assert most / 2 <= min(waits) < max(waits) <= most
