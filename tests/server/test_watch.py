"""Who watches over attempts: what is due, and what a cut means."""

import asyncio
from contextlib import aclosing
from random import Random
from typing import Any

import pytest

from server.errors import PartEnded
from server.http.client import UpstreamPool
from server.watch import TICK_S, Wheel

COMPLETION = {"prompt": "hello", "max_tokens": 9}


def test_a_thing_is_due_once_and_not_early() -> None:
    """Within one tick after its time, never before it, and only once."""
    rng = Random(2)
    wheel: Wheel[float] = Wheel()
    times = [rng.uniform(0, 30) for _ in range(500)]
    for at in times:
        wheel.put(at, at)
    seen: list[float] = []
    now = 0.0
    while wheel:
        found = list(wheel.due(now))
        assert all(now - 2 * TICK_S - 1e-9 <= at <= now for at in found)
        seen += found
        now += TICK_S
    assert sorted(seen) == sorted(times)


def test_a_wheel_that_was_empty_for_a_day_does_not_walk_through_it() -> None:
    """What is put after a long quiet is found at its time."""
    wheel: Wheel[str] = Wheel()
    wheel.put("a", 1.0)
    assert list(wheel.due(2.0)) == ["a"]
    wheel.put("b", 86_400.0)
    assert list(wheel.due(86_399.0)) == []
    assert list(wheel.due(86_400.0 + TICK_S)) == ["b"]


def test_what_is_put_for_sooner_is_found_sooner() -> None:
    """The order of putting says nothing about the order of times."""
    wheel: Wheel[str] = Wheel()
    wheel.put("late", 9.0)
    wheel.put("soon", 1.0)
    assert list(wheel.due(2.0)) == ["soon"]


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_left_of_a_request_that_is_over(stage: Any, until: Any, stream: bool) -> None:
    """After its last request a gateway watches over nothing, and no node has anything in flight."""
    engine = await stage.engine()
    gateway = await stage.gateway(engine.address)
    for _ in range(5):
        assert (await gateway.post("/v1/completions", COMPLETION | {"stream": stream})).status == 200
    [node] = gateway.nodes.nodes
    await until(lambda: node.in_flight == 0)
    assert not node.watches


async def test_a_live_node_is_not_cut_for_want_of_another(stage: Any, plan: Any, until: Any) -> None:
    """The bound that was learned moves work; with no better place, only the setting ends it."""
    engine = await stage.engine(default=plan(tokens=2))
    gateway = await stage.gateway(engine.address, stall_seconds=0.01, suspect_seconds=0.01)
    body = COMPLETION | {"max_tokens": 2, "stream": True}
    for _ in range(25):
        assert (await gateway.post("/v1/completions", body)).status == 200
    engine.plans = [plan(tokens=1, end="hang")]
    task = asyncio.create_task(gateway.post("/v1/completions", body))
    [node] = gateway.nodes.nodes
    await until(lambda: node.lived_at > 0)
    assert engine.running == 1
    engine.plans = [plan()]
    engine.release.set()
    assert (await task).data[-1] == "[DONE]"
    assert [event["reason"] for event in gateway.events("request.resumed")] == ["cut"]


async def test_what_cannot_be_resumed_is_not_taken_from_a_live_node(
    stage: Any, plan: Any, until: Any
) -> None:
    """However slow the node and well the other: to cut a stream with logprobs would be to lose it."""
    engines = [await stage.engine() for _ in range(2)]
    addresses = [engine.address for engine in engines]
    gateway = await stage.gateway(*addresses, stall_seconds=0.01, suspect_seconds=0.01)
    body = COMPLETION | {"stream": True}
    for _ in range(25):
        assert (await gateway.post("/v1/completions", body)).status == 200
    for engine in engines:
        engine.default = plan(tokens=4, end="hang")
    task = asyncio.create_task(gateway.post("/v1/completions", body | {"logprobs": 1}))
    await until(lambda: any(node.lived_at > 0 for node in gateway.nodes.nodes))
    [slow] = [node for node in gateway.nodes.nodes if node.lived_at > 0]
    asked_first = slow.lived_at
    # A second question is a second of patience, a hundred times what was learned.
    await until(lambda: slow.lived_at > asked_first)
    assert sum(engine.running for engine in engines) == 1
    assert not task.done()
    for engine in engines:
        engine.release.set()
    assert (await task).error["code"] == "resume_unsupported"


async def test_what_the_budget_does_not_allow_to_move_stays(stage: Any, plan: Any, until: Any) -> None:
    """However many are due in the same moment: the budget says how many move, and the rest is not lost."""
    slow, well = await stage.engine(), await stage.engine()
    settings = {"stall_seconds": 0.01, "suspect_seconds": 0.01, "retry_budget": 0, "retry_budget_minimum": 3}
    gateway = await stage.gateway(slow.address, nodes_poll_seconds=600, **settings)
    body = COMPLETION | {"stream": True}
    for _ in range(25):
        assert (await gateway.post("/v1/completions", body)).status == 200
    slow.default = plan(tokens=4, end="hang")
    tasks = [asyncio.create_task(gateway.post("/v1/completions", body)) for _ in range(12)]
    await until(lambda: slow.running == 12)
    gateway.nodes.replace(slow.found | well.found)
    await until(lambda: len(gateway.events("request.resumed")) >= 3)
    slow.release.set()
    assert {answer.data[-1] for answer in await asyncio.gather(*tasks)} == {"[DONE]"}
    reasons = [event["reason"] for event in gateway.events("request.resumed")]
    assert (reasons.count("timeout"), reasons.count("cut")) == (3, 9)


async def test_a_burst_of_503_costs_no_request(stage: Any, plan: Any) -> None:
    """A node that is too busy for a moment is asked last, and then again."""
    busy, well = await stage.engine(*[plan(status=503)] * 8), await stage.engine()
    gateway = await stage.gateway(busy.address, well.address)
    for _ in range(3):
        answers = await asyncio.gather(*(gateway.post("/v1/completions", COMPLETION) for _ in range(12)))
        assert {answer.status for answer in answers} == {200}


async def test_what_we_have_not_read_is_not_the_upstreams_silence(stage: Any, until: Any) -> None:
    """A slow client leaves bytes with us: the node that sent them has done its part."""
    engine = await stage.engine()
    [address] = engine.found.values()
    body = b'{"prompt": "x", "max_tokens": 3}'
    async with aclosing(UpstreamPool()) as pool:
        request = pool.request(address, "POST", "/v1/completions", [], body)
        async with request as response:
            connection = request.connection
            assert connection is not None
            await until(lambda: connection.held_back)
            assert await response.read(10_000)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_node_without_its_engine_says_so_at_once(stage: Any, stream: bool) -> None:
    """Whoever asked has other nodes: nothing is held while the engine's port is closed."""
    engine = await stage.engine()
    node = await stage.node(engine.address)
    await stage.vanish(engine)
    for _ in range(3):
        got = await node.post("/v1/completions", COMPLETION | {"stream": stream})
        assert got.status == 503
        assert node.nodes.counts()["down"] == 1


async def test_a_part_that_ends_ends_the_process(stage: Any) -> None:
    """Nobody would notice a gateway that no longer looks for nodes, until they are all gone."""
    gateway = await stage.gateway("127.0.0.1:1")
    [looking] = [task for task in asyncio.all_tasks() if task.get_name() == "discovery"]
    looking.cancel()
    async with asyncio.timeout(15):
        with pytest.raises(PartEnded, match="discovery ended"):
            await gateway.app.outlive()


async def test_a_retry_storm_is_bounded(stage: Any, plan: Any) -> None:
    """When every node turns everything away, nodes see little more than was asked."""
    engines = [await stage.engine(default=plan(status=503)) for _ in range(3)]
    gateway = await stage.gateway(*(engine.address for engine in engines))
    for _ in range(60):
        assert (await gateway.post("/v1/completions", COMPLETION)).status == 503
    asked = sum(len(engine.asked) for engine in engines)
    # A node that rested is tried again each second, and what it turns away then costs nobody a try.
    assert asked <= 60 * 1.2 + 3 * 10


async def test_one_overloaded_node_costs_no_request_however_little_is_asked(stage: Any, plan: Any) -> None:
    """Moves away from a node that turns requests away are not charged while another node is well."""
    busy, well = await stage.engine(default=plan(status=503)), await stage.engine()
    gateway = await stage.gateway(busy.address, well.address, retry_budget=0, retry_budget_minimum=0)
    answers = await asyncio.gather(*(gateway.post("/v1/completions", COMPLETION) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}


async def test_a_held_stream_is_kept_alive_and_then_served(stage: Any, until: Any) -> None:
    """With no node ready a stream's client gets comments, and the stream once there is one."""
    engine = await stage.engine()
    gateway = await stage.gateway(engine.address, heartbeat_seconds=0.01)
    await until(lambda: gateway.nodes.nodes)
    gateway.nodes.replace({})
    url = gateway.url + "/v1/completions"
    async with gateway.session.post(url, json=COMPLETION | {"stream": True}) as response:
        first = await response.content.readexactly(16)
        gateway.nodes.replace(engine.found)
        rest = await response.content.read()
    assert first == b": ping\n\n: ping\n\n"
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_held_to_its_deadline_may_be_sent_again(stage: Any, stream: bool) -> None:
    """503 with a time to come back, before the deadline makes a 504 of it."""
    gateway = await stage.gateway("127.0.0.1:1", nodes_poll_seconds=60)
    gateway.nodes.replace({})
    headers = {"x-request-timeout-ms": "1000"}
    got = await gateway.post("/v1/completions", COMPLETION | {"stream": stream}, headers)
    assert (got.status, got.error["code"]) == (503, "no_node_ready")
    assert int(got.headers["retry-after"]) > 0


async def test_a_stream_held_to_its_deadline_after_comments_ends_in_an_error(stage: Any) -> None:
    """Once comments were sent the status is 200: the refusal is the stream's last event."""
    gateway = await stage.gateway("127.0.0.1:1", nodes_poll_seconds=60, heartbeat_seconds=0.05)
    gateway.nodes.replace({})
    headers = {"x-request-timeout-ms": "1000"}
    got = await gateway.post("/v1/completions", COMPLETION | {"stream": True}, headers)
    assert (got.status, got.clean, got.error["code"]) == (200, True, "no_node_ready")
    assert b"[DONE]" not in got.body
