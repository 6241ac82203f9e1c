"""A gateway is killed under clients of our library."""

import asyncio
import signal
from random import Random
from typing import Any

from goldenfleet_client import AsyncClient

from tests.server.faults.engine import text_of
from tests.server.faults.processes import PATIENCE_S, free_address

STREAMS = 20
TOKENS = 64


async def test_a_killed_gateway_costs_no_stream(fleet: Any) -> None:
    """kill -9 of one of two gateways: every client gets its whole text, through the other."""
    engines = [await fleet.engine(), await fleet.engine()]
    first = await fleet.gateway(*engines, address=free_address())
    port = int(first.address.rpartition(":")[2])
    second = await fleet.gateway(*engines, address=free_address(), port=port)
    hosts = [gateway.address.rpartition(":")[0] for gateway in (first, second)]
    flowing, count = asyncio.Event(), 0

    async def one(client: AsyncClient, prompt: str) -> str:
        nonlocal count
        text = ""
        async for chunk in client.generate_stream(prompt, max_tokens=TOKENS):
            text += chunk.text
            count += 1
            if count == STREAMS * TOKENS // 4:
                flowing.set()
        return text

    rng = Random(5)
    prompts = ["p" * rng.randrange(1, 40) for _ in range(STREAMS)]
    client = AsyncClient(f"http://gateways.test:{port}", model="paced", resolver=lambda _, __: hosts)
    async with asyncio.timeout(PATIENCE_S), client, asyncio.TaskGroup() as group:
        running = [group.create_task(one(client, prompt)) for prompt in prompts]
        await flowing.wait()
        first.send(signal.SIGKILL)
    assert [task.result() for task in running] == [text_of(len(prompt), TOKENS) for prompt in prompts]
