"""Clients that leave at any moment of a request, while places, queue, nodes and drains change under them."""

import asyncio
import time
from random import Random
from typing import Any

from tests.server.fuzz.cases import each
from tests.server.fuzz.conftest import Troubles
from tests.server.fuzz.test_soak import sizes

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
STREAM = b'{"prompt":"x","max_tokens":6,"stream":true}'
WHOLE = b'{"prompt":"x","max_tokens":6}'


def request(rng: Random) -> bytes:
    body = rng.choice((STREAM, WHOLE))
    class_ = rng.choice((b"low", b"normal", b"high"))
    more = b"X-Goldenfleet-Priority: %b\r\nX-Request-Timeout-Ms: %d\r\n" % (
        class_,
        rng.choice((50, 2000, 20_000)),
    )
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_whoever_leaves_takes_nothing_along(
    stage: Any, plan: Any, until: Any, troubles: Troubles
) -> None:
    """Places, the queue, nodes' counts and the drain's are as before, whenever clients left and were shed."""
    plans = [
        plan(),
        plan(),
        plan(tokens=2, end="reset"),
        plan(status=503),
        plan(status=500),
        plan(tokens=0, end="half"),
        plan(tokens=3, end="eof"),
    ]
    engines = [await stage.engine() for _ in range(3)]
    gateway = await stage.gateway(
        *(engine.address for engine in engines),
        first_tokens_floor=2,
        first_tokens_initial=2,
        first_tokens_ceiling=2,
        queue_size=6,
        concurrency=20,
        retry_budget=1.0,
        retry_budget_minimum=1000,
    )

    async def check(rng: Random) -> None:
        engine = rng.choice(engines)
        engine.plans.append(rng.choice(plans))
        _, writer = connected = await asyncio.open_connection("127.0.0.1", gateway.port)
        sent = request(rng)
        cut = rng.choice((len(sent), len(sent), rng.randrange(len(sent))))
        writer.write(sent[:cut])
        await turns(rng.choice((0, 1, 2, 3, 5, 8, 13, 40, 150)))
        if rng.random() < 0.05:
            gateway.drain.start("test", time.time() + rng.choice((0.0, 0.05, 30.0)), "admin")
            await turns(rng.randrange(20))
            gateway.drain.cancel()
        if rng.random() < 0.3 and cut == len(sent):
            await connected[0].read(1)
        (writer.transport.abort if rng.random() < 0.7 else writer.close)()

    await each("leavers", 1200, check)
    await until(lambda: not any(sizes(gateway).values()))
    for engine in engines:
        engine.plans.clear()
    for _ in range(5):
        got = await gateway.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
        assert got.status == 200
    assert gateway.events("request.failed") == []
