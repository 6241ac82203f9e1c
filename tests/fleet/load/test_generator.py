"""Requests on their way."""

from __future__ import annotations

import asyncio
import random
import time

from goldenfleet_client import AsyncClient, RetryPolicy

from fleet.load.arrivals import Arrival, Lengths
from fleet.load.generator import Generator
from fleet.load.prompts import Prompts
from fleet.load.sample import Sample

AT_ONCE = [Arrival(0.0, Lengths(20, 8))] * 5


async def ask(endpoint, arrivals, *, most_at_once: int = 100, stop=None) -> list[Sample]:
    samples: list[Sample] = []
    retry = RetryPolicy(retries=0, resumes=0)
    async with AsyncClient(endpoint.url, retry=retry) as api:
        generator = Generator(
            api,
            Prompts(1.0, random.Random(1)),
            model="a-model",
            chat=True,
            most_at_once=most_at_once,
            clock=time.monotonic,
            record=samples.append,
        )
        async with asyncio.timeout(20):
            await generator.run(arrivals, stop or asyncio.Event())
    return samples


async def test_nothing_waits_for_an_answer_before_it_sends(endpoint) -> None:
    """An endpoint that answers nobody before all have asked is asked by all."""
    endpoint.together = 5
    assert [sample.outcome for sample in await ask(endpoint, AT_ONCE)] == ["ok"] * 5


async def test_times_count_from_when_a_request_was_due(endpoint) -> None:
    """What should have left two seconds ago is two seconds late, and its answer too."""
    (sample,) = await ask(endpoint, [Arrival(-2.0, Lengths(20, 8))])
    assert sample.late_s >= 2
    assert sample.ttft_s is not None
    assert sample.total_s is not None
    assert 2 <= sample.late_s <= sample.ttft_s <= sample.total_s


async def test_a_bound_is_counted_and_puts_nothing_off(endpoint) -> None:
    """With room for two, of five three are unsent; the endpoint never hears of them."""
    endpoint.together = 2
    samples = await ask(endpoint, AT_ONCE, most_at_once=2)
    assert sorted(sample.outcome for sample in samples) == ["ok", "ok", "unsent", "unsent", "unsent"]
    assert len(endpoint.asked) == 2


async def test_what_comes_of_a_request_is_told(endpoint) -> None:
    """A whole answer has its tokens and gaps, a cut stream is truncated, a refusal is none of our losses."""
    (well,) = await ask(endpoint, AT_ONCE[:1])
    assert (well.prompt_tokens, well.output_tokens, len(well.gaps_s), well.error) == (100, 3, 2, None)
    endpoint.cut = True
    (cut,) = await ask(endpoint, AT_ONCE[:1])
    assert cut.outcome == "truncated"
    assert cut.total_s is None
    endpoint.status = 429
    (refused,) = await ask(endpoint, AT_ONCE[:1])
    assert refused.outcome == "refused"
    assert "RateLimited" in (refused.error or "")


async def test_a_stop_drops_what_runs_and_sends_no_more(endpoint) -> None:
    """One request hangs and one is due in an hour: a stop ends both."""
    endpoint.together = 2
    stop = asyncio.Event()
    running = asyncio.create_task(ask(endpoint, [AT_ONCE[0], Arrival(3600.0, Lengths(20, 8))], stop=stop))
    await asyncio.to_thread(endpoint.reached.wait, 10)
    stop.set()
    assert await running == []
    assert len(endpoint.asked) == 1


async def test_no_two_prompts_begin_alike(endpoint) -> None:
    """A prefix cache has nothing to find, and prompts are as long as the model's tokens ask for."""
    prompts = Prompts(0.5, random.Random(1))
    texts = [prompts.of(40) for _ in range(50)]
    assert {len(text.split()) for text in texts} == {20}
    assert len({text.split()[0] for text in texts}) == 50
