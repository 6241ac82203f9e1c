"""What clients notice when one of two engines fails under load: nothing."""

import asyncio
import signal
from random import Random
from typing import Any

import pytest

from tests.server.faults.load import Load

# A quarter of the streams' tokens: the fault falls into the middle of streams and of the load.
FAULT_AFTER = 480


async def under_load(fleet: Any, gateway: Any, seed: int, fault: Any, seconds: float = 5) -> Load:
    """All requests are over; the fault fell after a known number of tokens."""
    load = Load(fleet.session, f"http://{gateway.address}", Random(seed), seconds)
    running = asyncio.create_task(load.run())
    await load.seen(FAULT_AFTER).wait()
    await fault()
    await running
    return load


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda n: n.name)
async def test_an_engine_that_gets_a_signal_costs_no_request(fleet: Any, number: signal.Signals) -> None:
    """Killed, ended or stopped in the middle: no failure, no stream cut short, every character right."""
    engines = [await fleet.engine(), await fleet.engine()]
    gateway = await fleet.gateway(*engines)

    async def fault() -> None:
        engines[0].send(number)

    load = await under_load(fleet, gateway, number, fault)
    assert (load.noticed, load.answered) == ([], load.offered)
    assert gateway.events("request.resumed")


@pytest.mark.parametrize("mode", ["unavailable", "resets"])
async def test_an_engine_that_turns_requests_away_costs_none(fleet: Any, mode: str) -> None:
    """503 to every request, or a reset on every connection used before: the other engine answers."""
    engines = [await fleet.engine(), await fleet.engine()]
    gateway = await fleet.gateway(*engines)
    load = await under_load(fleet, gateway, 7, lambda: fleet.control(engines[0], mode))
    assert (load.noticed, load.answered) == ([], load.offered)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda n: n.name)
async def test_a_node_that_gets_a_signal_costs_no_request(fleet: Any, number: signal.Signals) -> None:
    """The same with our own server between the gateway and the engine."""
    nodes = [await fleet.node(await fleet.engine(), shutdown_grace_seconds=0.5) for _ in range(2)]
    gateway = await fleet.gateway(*nodes)

    async def fault() -> None:
        nodes[0].send(number)

    load = await under_load(fleet, gateway, number, fault, seconds=3)
    assert (load.noticed, load.answered) == ([], load.offered)
    assert gateway.events("request.resumed")


async def test_an_engine_that_is_healthy_and_gives_no_token_costs_no_request(fleet: Any) -> None:
    """Its health check answers, so it gets more time; what other engines lately needed says how much."""
    engines = [await fleet.engine(), await fleet.engine()]
    gateway = await fleet.gateway(*engines, stall_seconds=0.5, first_byte_seconds=1)
    load = Load(fleet.session, f"http://{gateway.address}", Random(3), seconds=6)
    running = asyncio.create_task(load.run())
    # Enough streams are over by now to know how long a gap between tokens may be.
    await load.seen(25 * 64).wait()
    await fleet.control(engines[0], "mute")
    await running
    assert (load.noticed, load.answered) == ([], load.offered)
    assert gateway.events("request.resumed")[0]["reason"] == "timeout"
    assert not gateway.events("node.silent")
