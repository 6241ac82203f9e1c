"""A gateway is killed under clients of our library, behind Envoy: does a client lose anything?"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass

from goldenfleet_client import AsyncClient, Event, GoldenfleetError, Retried, StreamTruncated

from bench.answers import prompt_of
from bench.frames import MODEL
from bench.gateways import BALANCER, KEY, Running, Spec
from bench.stage import Stage
from bench.tokens import read_prompt, text_of

_PACE_MS = 20.0
_COUNTS = ("asked", "resumed", "resumed_early", "lost", "truncated", "wrong")


@dataclass(frozen=True)
class Crowd:
    """How many clients read how many streams in turn; the kill comes in the middle of the second."""

    clients: int = 50
    streams: int = 3
    tokens: int = 64


async def gateway_killed(stage: Stage, ours: Spec, crowd: Crowd) -> dict[str, int]:
    """Counts of streams: asked, resumed, lost, truncated, wrong. Raises ProcessFailed.

    `resumed_early`: attempts that were cut before anything was killed.
    """
    engines = await stage.engines(2)
    gateways = [await stage.gateway(ours, [engine.address for engine in engines]) for _ in range(2)]
    for engine in engines:
        await engine.set(pace_ms=_PACE_MS)
    balancer = await stage.gateway(BALANCER, [gateway.address for gateway in gateways])
    host, port = balancer.address
    base_url = f"http://{host}:{port}"
    counts: Counter[str] = Counter()

    def noticed(event: Event) -> None:
        victim = gateways[0].child
        counts["resumed_early"] += isinstance(event, Retried) and victim is not None and victim.running

    async with (
        AsyncClient(base_url, api_key=KEY, model=MODEL, on_event=noticed) as client,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(_kill(gateways[0], crowd))
        for number in range(crowd.clients):
            tasks.create_task(_read_streams(client, number, crowd, counts))
    return {
        name: counts[name] for name in ("asked", "resumed", "resumed_early", "lost", "truncated", "wrong")
    }


async def _kill(gateway: Running, crowd: Crowd) -> None:
    await asyncio.sleep(1.5 * crowd.tokens * _PACE_MS / 1000)
    assert gateway.child is not None
    gateway.child.signal(signal.SIGKILL)


async def _read_streams(client: AsyncClient, number: int, crowd: Crowd, counts: Counter[str]) -> None:
    prompt = prompt_of(number)
    expected = text_of(number, len(read_prompt({"prompt": prompt}).ids), crowd.tokens)
    for _ in range(crowd.streams):
        counts["asked"] += 1
        try:
            async with client.generate_stream(prompt, max_tokens=crowd.tokens, temperature=0.0) as stream:
                async for _ in stream:
                    continue
                said = stream.result
        except StreamTruncated:
            counts["truncated"] += 1
        except GoldenfleetError:
            counts["lost"] += 1
        else:
            counts["resumed"] += said.resumes > 0
            counts["wrong"] += said.text != expected
