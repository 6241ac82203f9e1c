"""Nodes that accept and do not answer: what becomes of requests, and of the nodes."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.server.faults.engine import text_of
from tests.server.faults.processes import PATIENCE_S

UNARY = {"prompt": "p", "max_tokens": 8}
STREAM = UNARY | {"stream": True, "max_tokens": 64}


async def post(
    fleet: Any, gateway: Any, body: dict[str, Any], timeout_s: float = 20
) -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer that ended as HTTP says it must."""
    headers = {"x-request-timeout-ms": str(int(timeout_s * 1000))}
    url = f"http://{gateway.address}/v1/completions"
    async with asyncio.timeout(PATIENCE_S), fleet.session.post(url, json=body, headers=headers) as response:
        return response.status, await response.read(), response.headers


async def test_a_stopped_engine_gets_no_work_until_it_answers_and_then_does(fleet: Any) -> None:
    """Silent: none of the requests even tries it. Continued: it serves again, and nobody told the gateway."""
    stopped, other = await fleet.engine(), await fleet.engine()
    gateway = await fleet.gateway(stopped, other, suspect_seconds=0.3, probe_seconds=0.5)
    stopped.send(signal.SIGSTOP)
    first = await asyncio.gather(*(post(fleet, gateway, UNARY) for _ in range(8)))
    await gateway.event("node.silent")
    retried = len(gateway.events("request.retried"))
    second = [await post(fleet, gateway, UNARY) for _ in range(10)]
    assert {status for status, _, _ in [*first, *second]} == {200}
    assert retried > 0
    assert len(gateway.events("request.retried")) == retried
    stopped.send(signal.SIGCONT)
    assert (await gateway.event("node.answers"))["silent_s"] > 0
    other.send(signal.SIGKILL)
    assert [(await post(fleet, gateway, UNARY))[0] for _ in range(3)] == [200] * 3


async def test_when_all_engines_stop_clients_are_told_by_their_deadline(fleet: Any) -> None:
    """A plain request gets 503 or 504 in words; a stream an error as its last event, never a clean end."""
    engines = [await fleet.engine(), await fleet.engine()]
    gateway = await fleet.gateway(*engines, suspect_seconds=0.3, probe_seconds=0.5)
    url = f"http://{gateway.address}/v1/completions"
    async with asyncio.timeout(PATIENCE_S):
        headers = {"x-request-timeout-ms": "4000"}
        async with fleet.session.post(url, json=STREAM, headers=headers) as response:
            begun = await response.content.readuntil(b"\n\n")
            for engine in engines:
                engine.send(signal.SIGSTOP)
            plain = asyncio.create_task(post(fleet, gateway, UNARY, 3))
            late = asyncio.create_task(post(fleet, gateway, STREAM, 3))
            events = (begun + await response.content.read()).split(b"\n\n")
        for status, body, _ in (await plain, await late):
            assert status in (503, 504)
            assert json.loads(body)["error"]["code"] in ("no_node_ready", "deadline_exceeded", "nodes_failed")
    assert b"[DONE]" not in b"".join(events)
    assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] in (
        "no_node_ready",
        "deadline_exceeded",
        "nodes_failed",
    )


async def test_the_only_engine_may_stop_and_go_on(fleet: Any) -> None:
    """With no other place to go a stream waits where it is, and goes on when the engine does."""
    engine = await fleet.engine()
    gateway = await fleet.gateway(engine, suspect_seconds=0.3, probe_seconds=0.3)
    running = asyncio.create_task(post(fleet, gateway, STREAM))
    async with asyncio.timeout(PATIENCE_S):
        while await answers_under_way(fleet, gateway) == 0:
            continue
    engine.send(signal.SIGSTOP)
    await gateway.event("node.silent")
    engine.send(signal.SIGCONT)
    _, body, _ = await running
    texts = [json.loads(line[6:])["choices"] for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    assert "".join(choice["text"] for choices in texts for choice in choices) == text_of(1, 64)
    assert body.endswith(b"data: [DONE]\n\n")
    assert not gateway.events("request.resumed")


async def answers_under_way(fleet: Any, gateway: Any) -> int:
    async with fleet.session.get(f"http://{gateway.admin}/state") as response:
        return int((await response.json())["in_flight"])


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_is_only_slow_is_left_alone(fleet: Any, stream: bool) -> None:
    """Suspicion costs a question, not the request: an engine that answers it may take its time."""
    engines = [await fleet.engine(), await fleet.engine()]
    gateway = await fleet.gateway(*engines, suspect_seconds=0.3)
    body = UNARY | {"stream": stream}
    await asyncio.gather(*(post(fleet, gateway, body) for _ in range(25)))
    for engine in engines:
        await fleet.control(engine, "slow")
    slow = await asyncio.gather(*(post(fleet, gateway, body) for _ in range(6)))
    assert {status for status, _, _ in slow} == {200}
    assert not [event for name in ("retried", "resumed") for event in gateway.events(f"request.{name}")]
    assert not gateway.events("node.silent")


async def test_a_node_whose_engine_stops_says_so_at_once(fleet: Any) -> None:
    """The node finds out beside its engine, and the gateway goes elsewhere: the client notices nothing."""
    engines = [await fleet.engine(), await fleet.engine()]
    quick = {"suspect_seconds": 0.3, "probe_seconds": 0.5}
    nodes = [await fleet.node(engine, **quick) for engine in engines]
    gateway = await fleet.gateway(*nodes, **quick)
    streams = [asyncio.create_task(post(fleet, gateway, STREAM)) for _ in range(6)]
    async with asyncio.timeout(PATIENCE_S):
        while await answers_under_way(fleet, nodes[0]) == 0:
            continue
    engines[0].send(signal.SIGSTOP)
    results = [*(await asyncio.gather(*streams)), *[await post(fleet, gateway, UNARY) for _ in range(6)]]
    assert {status for status, _, _ in results} == {200}
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body, _ in results[:6])
    assert nodes[0].events("node.silent")


async def test_a_gateway_that_was_stopped_itself_blames_no_engine(fleet: Any) -> None:
    """What came while it did not run is read before anything is concluded from the silence."""
    engines = [await fleet.engine(), await fleet.engine()]
    gateway = await fleet.gateway(*engines, suspect_seconds=0.3, silence_seconds=0.6, first_byte_seconds=0.6)
    url = f"http://{gateway.address}/v1/completions"
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(fleet.session.post(url, json=STREAM)) for _ in range(4)]
        for stream in streams:
            await stream.content.readuntil(b"\n\n")
        gateway.send(signal.SIGSTOP)
        for engine in engines:
            await fleet.control(engine, "slow")
        # Longer than any of the gateway's limits.
        await post(fleet, engines[0], UNARY)
        gateway.send(signal.SIGCONT)
        for stream in streams:
            assert (await stream.content.read()).endswith(b"data: [DONE]\n\n")
    assert not [event for name in ("retried", "resumed") for event in gateway.events(f"request.{name}")]
