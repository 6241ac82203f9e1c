"""Calls that their callers abandon."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from goldenfleet_client import AsyncClient, Client, ConfigurationError, GoldenfleetError


def test_leaving_a_stream_closes_its_connection(caller: Any, service: Any, acts: Any) -> None:
    """A stream that is left early is cut at the service, which can stop generating."""
    service.then(acts.speak(events=5, cut=acts.silence))
    assert caller.read(take=2).text == "Der Mond "
    assert service.connections[0].left.wait(5)


def test_a_sync_client_has_no_thread(service: Any, acts: Any) -> None:
    """Nothing is there that Ctrl-C, at whatever moment it comes, could leave waiting for this thread."""
    before = set(threading.enumerate())
    service.then(acts.speak(split=3))
    with Client(service.url, model="m") as client, client.generate_stream("Sing!") as stream:
        next(iter(stream))
        assert set(threading.enumerate()) <= before.union(service._threads)


def test_a_stream_without_an_end_has_no_result(service: Any, acts: Any) -> None:
    """The result of a stream that was not read to its end does not exist."""
    service.then(acts.speak())
    with Client(service.url, model="m") as client, client.generate_stream("Sing!") as stream:
        next(iter(stream))
        with pytest.raises(GoldenfleetError):
            _ = stream.result
        stream.close()
        assert list(stream) == []


async def test_cancelling_a_call_closes_its_connection(service: Any, acts: Any) -> None:
    """A cancelled call does not go on reading."""
    service.then(acts.silence)
    async with AsyncClient(service.url, model="m") as client:
        call = asyncio.create_task(client.generate("x"))
        await asyncio.to_thread(_until, lambda: bool(service.seen))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(service.connections[0].left.wait, 5)


async def test_the_pool_survives_churned_cancellations(service: Any, acts: Any) -> None:
    """After hundreds of calls cancelled at random points, every new call succeeds."""
    service.then(acts.whole)
    chance = random.Random(3)
    async with AsyncClient(service.url, model="m") as client:
        for _ in range(15):
            calls = [asyncio.create_task(client.generate("x")) for _ in range(12)]
            for call in calls:
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        results = await asyncio.gather(*(client.generate("x") for _ in range(20)))
    assert {result.text for result in results} == {acts.text}


async def test_a_stream_is_cancelled_wherever_it_waits(service: Any, acts: Any) -> None:
    """In a look-up, a head, a body, a wait or a resume: no connection and no task of it is left behind."""
    unfinished, asked = 0, Counter[str]()
    turns = [acts.speak(events=3, cut=acts.reset), acts.refuse(503), acts.speak(split=9)]

    def act(connection: Any, seen: Any) -> bool:
        asked[seen.headers["x-request-id"]] += 1
        return bool(turns[asked[seen.headers["x-request-id"]] - 1](connection, seen))

    service.then(act)
    async with AsyncClient(service.url, model="m", random=lambda: 0.0, budget_minimum=999) as client:
        for steps in range(60):
            reading = asyncio.create_task(_read(client))
            for _ in range(steps):
                await asyncio.to_thread(len, "") if steps % 2 else await asyncio.sleep(0)
            unfinished += not reading.done()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            for pool in (client._pools._kept, client._pools._fresh):
                assert all(connection.is_idle() for connection in pool._transport._pool.connections)
    assert unfinished > 20


async def _read(client: AsyncClient) -> str:
    async with client.generate_stream("Sing!") as stream:
        return "".join([chunk.text async for chunk in stream])


def test_an_async_client_serves_one_loop(service: Any, acts: Any) -> None:
    """Its connections are of the first loop: in another one it says so, instead of failing by chance."""
    service.then(acts.answer(200, {"data": []}, "connection: close"))
    client = AsyncClient(service.url)
    assert asyncio.run(client.models()) == ()
    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(client.models())


def test_threads_share_a_client(service: Any, acts: Any) -> None:
    """One client serves many threads at once."""
    service.then(acts.speak(split=3))
    texts: list[str] = []

    def read(client: Client) -> None:
        texts.append("".join(chunk.text for chunk in client.generate_stream("Sing!")))

    with Client(service.url, model="m") as client:
        threads = [threading.Thread(target=read, args=(client,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert texts == [acts.text] * 16


def _until(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(500):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("it did not come to that")
