"""What a serving gateway and node say of themselves in their metrics."""

import asyncio
from typing import Any

import pytest

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "model": "scripted"}
LABELS = {"route": "chat", "model": "scripted"}


def value(serving: Any, name: str, **labels: str) -> float:
    registry = serving.telemetry.metrics.registry
    return registry.get_sample_value(f"goldenfleet_{name}", labels) or 0.0


async def test_a_stream_is_counted_with_its_pace(stage: Any) -> None:
    """Tokens by the engine's usage, time to the first, gaps, rate: one observation a stream."""
    gateway = await stage.gateway((await stage.engine()).address)
    await gateway.post("/v1/chat/completions", CHAT | {"stream": True})
    who = {"tenant": "anonymous", "model": "scripted"}
    assert value(gateway, "tokens_total", direction="completion", **who) == 5
    assert value(gateway, "tokens_total", direction="prompt", **who) > 0
    assert value(gateway, "tenant_requests_total", result="ok", **who) == 1
    assert value(gateway, "time_to_first_token_seconds_count", **LABELS) == 1
    assert 0 < value(gateway, "time_to_first_token_seconds_sum", **LABELS) < 15


async def test_a_whole_answer_s_tokens_are_counted_without_a_stream_s_pace(stage: Any) -> None:
    """The usage of an answer is found in its end; it has no first token of its own."""
    gateway = await stage.gateway((await stage.engine()).address)
    await gateway.post("/v1/chat/completions", CHAT)
    assert value(gateway, "tokens_total", direction="completion", tenant="anonymous", model="scripted") == 5
    assert value(gateway, "time_to_first_token_seconds_count", **LABELS) == 0


async def test_a_comment_is_no_first_token(stage: Any, plan: Any, until: Any) -> None:
    """A heartbeat keeps a client waiting; it does not end the wait."""
    engine = await stage.engine(plan(end="hang"))
    gateway = await stage.gateway(engine.address, heartbeat_seconds=0.01)
    async with gateway.session.post(
        gateway.url + "/v1/chat/completions", json=CHAT | {"stream": True}
    ) as response:
        assert await response.content.readexactly(16) == b": ping\n\n" * 2
        engine.release.set()
        await response.content.read()
    await until(lambda: value(gateway, "time_to_first_token_seconds_count", **LABELS) == 1)
    assert value(gateway, "time_to_first_token_seconds_sum", **LABELS) >= 0.02


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_counted_as_gone(
    stage: Any, plan: Any, until: Any, stream: bool
) -> None:
    """Neither our failure nor its refusal, and what it had until then is known."""
    engine = await stage.engine(default=plan(tokens=2 if stream else None, end="hang"))
    gateway = await stage.gateway(engine.address)
    task = asyncio.create_task(gateway.post("/v1/chat/completions", CHAT | {"stream": stream}))
    await until(lambda: engine.running == 1)
    task.cancel()
    await until(lambda: value(gateway, "requests_total", route="chat", outcome="client_gone") == 1)
    [line] = gateway.events("request.ended")
    assert (line["outcome"], line["status"], line["nodes"]) == ("client_gone", None, [engine.address])


async def test_a_node_that_keeps_failing_is_counted_as_ejected(stage: Any, plan: Any) -> None:
    """Ejections and the states of nodes are read from the node set itself."""
    bad, good = await stage.engine(default=plan(status=500)), await stage.engine()
    gateway = await stage.gateway(bad.address, good.address, retry_budget_minimum=100)
    for _ in range(200):
        assert (await gateway.post("/v1/chat/completions", CHAT)).status == 200
        for node in gateway.nodes.nodes:
            node.suspect_until = 0.0
            node.unproven = False
        if value(gateway, "ejections_total"):
            break
    assert value(gateway, "ejections_total") == 1
    assert value(gateway, "nodes", state="ejected") == 1
    assert value(gateway, "nodes", state="ready") == 1


async def test_a_node_counts_what_passes_through_it(stage: Any) -> None:
    """A model node has the same metrics as a gateway, of its own engine."""
    node = await stage.node((await stage.engine()).address)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    await node.post("/v1/chat/completions", CHAT | usage)
    await node.post("/v1/chat/completions", CHAT)
    assert value(node, "requests_total", route="chat", outcome="ok") == 2
    assert value(node, "time_to_first_token_seconds_count", **LABELS) == 1
    assert value(node, "tokens_total", direction="completion", tenant="anonymous", model="scripted") == 10


async def test_a_flood_of_models_over_the_wire_makes_no_series(stage: Any) -> None:
    """Clients name what they like; the number of series stays what it is."""
    gateway = await stage.gateway((await stage.engine()).address)
    for at in range(60):
        await gateway.post("/v1/completions", {"prompt": "x", "max_tokens": 1, "model": f"model-{at}"})
    text = gateway.telemetry.exposition().decode()
    assert (
        len({line.split('model="')[1].split('"')[0] for line in text.splitlines() if 'model="' in line}) == 21
    )
    assert value(gateway, "tenant_requests_total", tenant="anonymous", model="other", result="ok") == 40
