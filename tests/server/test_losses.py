"""Losses that fall together, and what they must not cost."""

import asyncio
from typing import Any

import pytest

from server.errors import DeadlineExceeded, NodeDraining
from server.handover import Handover

COMPLETION = {"prompt": "hello", "max_tokens": 9}
CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_node_that_comes_back_is_asked_again(stage: Any, plan: Any, until: Any, stream: bool) -> None:
    """When every node was tried and refuses connections, the first that listens again gets the request."""
    engine = await stage.engine(plan(tokens=4 if stream else None, end="hang"))
    gateway = await stage.gateway(engine.address)
    task = asyncio.create_task(gateway.post("/v1/completions", COMPLETION | {"stream": stream}))
    await until(lambda: engine.running == 1)
    await stage.vanish(engine)
    await until(lambda: gateway.nodes.counts()["down"] == 1)
    await stage.listen(engine)
    got = await task
    assert (got.status, got.clean) == (200, True)


async def test_refused_connections_use_up_no_attempts(stage: Any, plan: Any, until: Any) -> None:
    """However many dead nodes a request meets, it is held for one that lives, up to its deadline."""
    engine = await stage.engine()
    gateway = await stage.gateway(*(f"127.0.0.1:{port}" for port in range(1, 16)), nodes_poll_seconds=600)
    task = asyncio.create_task(gateway.post("/v1/completions", COMPLETION))
    await until(lambda: gateway.nodes.counts()["down"] == 15)
    gateway.nodes.replace(engine.found)
    assert (await task).status == 200


async def test_a_second_loss_does_not_cost_the_exact_resume(stage: Any, plan: Any, until: Any) -> None:
    """The context's length is asked of a third node when the second is gone as well."""
    expected = await (await stage.gateway((await stage.engine()).address)).post("/v1/chat/completions", CHAT)
    for _ in range(4):
        lost, living = await stage.engine(plan(tokens=4, end="hang")), await stage.engine()
        gateway = await stage.gateway(lost.address, nodes_poll_seconds=600)
        task = asyncio.create_task(gateway.post("/v1/chat/completions", CHAT))
        await until(lambda lost=lost: lost.running == 1)
        gateway.nodes.replace({"gone": ("127.0.0.1", 1), "too": ("127.0.0.1", 2), **living.found})
        lost.release.set()
        got = await task
        assert (got.text, got.data[-1]) == (expected.text, "[DONE]")
        assert gateway.events("request.resumed")[0]["mode"] == "tokens"


async def test_a_request_at_its_deadline_does_not_stop_the_handover(stage: Any) -> None:
    """A deadline that is reached as the node hands over ends its own request; the others are handed over."""
    drain = (await stage.gateway("127.0.0.1:1")).drain
    handover = Handover(drain)
    watching = asyncio.create_task(handover.watch())

    async def held(seconds: float) -> None:
        async with handover.within(seconds):
            await asyncio.Event().wait()

    late, running = asyncio.create_task(held(0)), asyncio.create_task(held(60))
    await asyncio.sleep(0)
    drain.handover.set()
    async with asyncio.timeout(15):
        ends = await asyncio.gather(late, running, return_exceptions=True)
    assert isinstance(ends[0], NodeDraining | DeadlineExceeded)
    assert isinstance(ends[1], NodeDraining)
    assert not watching.done()
    watching.cancel()
