"""A node: its engine's API passed on as it is, until a drain ends it."""

import asyncio
import time
from typing import Any

import pytest

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
STREAM = CHAT | {"stream": True, "return_token_ids": True, "stream_options": {"include_usage": True}}


async def test_a_stream_passes_as_it_is(stage: Any) -> None:
    """A node changes no byte of its engine's stream."""
    engine = await stage.engine()
    node = await stage.node(engine.address)
    direct = await stage.session.post(f"http://{engine.address}/v1/chat/completions", json=STREAM)
    assert (await node.post("/v1/chat/completions", STREAM)).body == await direct.read()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_answer_passes_as_it_is(stage: Any, path: str) -> None:
    """Nor of a plain answer."""
    engine = await stage.engine()
    node = await stage.node(engine.address)
    body = CHAT | {"prompt": "x"} if path.endswith("/completions") else CHAT
    direct = await stage.session.post(f"http://{engine.address}{path}", json=body)
    assert (await node.post(path, body)).body == await direct.read()


async def test_a_node_speaks_tgi(stage: Any) -> None:
    """TGI's routes are translated on a node as they are on a gateway."""
    engine = await stage.engine()
    body = {"inputs": "x", "parameters": {"max_new_tokens": 4, "details": True}}
    asked = [stage.node(engine.address), stage.gateway(engine.address)]
    answers = [await (await serving).post("/generate", body) for serving in asked]
    assert answers[0].json == answers[1].json
    assert answers[0].json["details"]["generated_tokens"] == 4


async def test_while_accepting_a_node_serves_and_says_that_it_goes(stage: Any) -> None:
    """Early in a drain requests are served, and whoever sent them is told to go elsewhere."""
    node = await stage.node((await stage.engine()).address)
    node.drain.start("spot", time.time() + 1000, "imds")
    got = await node.post("/v1/chat/completions", STREAM)
    assert (got.status, got.data[-1]) == (200, "[DONE]")
    assert got.headers["x-goldenfleet-state"] == "draining"
    assert got.headers["connection"] == "close"
    assert (await node.ask("GET", "/ready")).status == 503
    assert (await node.ask("GET", "/health")).status == 200


async def test_later_in_a_drain_a_node_refuses(stage: Any, plan: Any, until: Any) -> None:
    """Once it refuses, a node says so in a way that every client and gateway understands."""
    engine = await stage.engine(plan(end="hang"))
    node = await stage.node(engine.address)
    running = asyncio.create_task(node.post("/v1/chat/completions", STREAM))
    await until(lambda: engine.running == 1)
    node.drain.start("spot", time.time(), "imds")
    got = await node.post("/v1/chat/completions", STREAM)
    await running
    assert (got.status, got.error["code"]) == (503, "node_draining")
    wanted = {
        "retry-after-ms": "250",
        "retry-after": "1",
        "x-should-retry": "true",
        "connection": "close",
        "x-goldenfleet-state": "draining",
    }
    assert wanted.items() <= got.headers.items()
    assert len(node.events("drain.refused_first")) == 1


async def test_at_the_handover_a_stream_ends_in_an_event(stage: Any, plan: Any, until: Any) -> None:
    """What still streams at the handover is cut between two events, with node_draining as the last."""
    engine = await stage.engine(plan(tokens=3, end="hang"))
    node = await stage.node(engine.address)
    task = asyncio.create_task(node.post("/v1/chat/completions", STREAM))
    await until(lambda: engine.running == 1)
    node.drain.start("spot", time.time(), "imds")
    got = await task
    assert (got.error["code"], got.clean) == ("node_draining", True)
    assert b"[DONE]" not in got.body
    await until(lambda: engine.running == 0)
    assert node.drain.phase == "empty"


async def test_at_the_handover_a_plain_request_is_sent_back(stage: Any, plan: Any, until: Any) -> None:
    """A plain request that is still running at the handover may be sent to another node."""
    engine = await stage.engine(plan(end="hang"))
    node = await stage.node(engine.address)
    task = asyncio.create_task(node.post("/v1/chat/completions", CHAT))
    await until(lambda: engine.running == 1)
    node.drain.start("spot", time.time(), "imds")
    assert ((await task).status, (await task).error["code"]) == (503, "node_draining")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_handover_between_node_and_gateway_is_not_noticed(
    stage: Any, plan: Any, until: Any, stream: bool
) -> None:
    """A gateway takes what one node hands over to another node, and the client reads one answer."""
    body = CHAT | {"stream": stream}
    slow, quick = await stage.engine(plan(tokens=3 if stream else None, end="hang")), await stage.engine()
    leaving, staying = await stage.node(slow.address), await stage.node(quick.address)
    expected = await (await stage.gateway(staying.address)).post("/v1/chat/completions", body)
    gateway = await stage.gateway(leaving.address)
    task = asyncio.create_task(gateway.post("/v1/chat/completions", body))
    await until(lambda: slow.running == 1)
    host, _, port = staying.address.partition(":")
    gateway.nodes.replace({"staying": (host, int(port))} | {leaving.address: ("127.0.0.1", leaving.port)})
    leaving.drain.start("spot", time.time(), "imds")
    got = await task
    assert (got.status, got.clean) == (200, True)
    assert got.text == expected.text if stream else got.json["choices"] == expected.json["choices"]
    kind = "request.resumed" if stream else "request.retried"
    [event] = gateway.events(kind)
    assert event["reason"] == "draining"
    # Whoever drains the node sees what it handed over, and that a gateway saw it through.
    assert leaving.app.moves.snapshot()["handed_over_ids"] == [event["request_id"]]
    assert gateway.app.moves.snapshot()["moved"] == {event["request_id"]: "ok"}


@pytest.mark.parametrize("end", ["reset", "eof", "half", "engine_stopped"])
async def test_an_engine_that_is_lost_never_ends_a_stream_cleanly(stage: Any, plan: Any, end: str) -> None:
    """A node whose engine dies tells its client so in an event."""
    node = await stage.node((await stage.engine(plan(tokens=2, end=end))).address)
    got = await node.post("/v1/chat/completions", STREAM)
    assert got.error["code"] in ("nodes_failed", "engine_stopped")
    assert b"[DONE]" not in got.body


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_is_not_there_is_a_refusal(stage: Any, stream: bool) -> None:
    """Without its engine a node answers 503, which a gateway retries elsewhere."""
    node = await stage.node("127.0.0.1:1")
    got = await node.post("/v1/chat/completions", CHAT | {"stream": stream})
    assert (got.status, got.error["code"]) == (503, "nodes_failed")


async def test_a_node_without_its_engine_is_not_ready(stage: Any) -> None:
    """/ready follows the engine, /health does not."""
    node = await stage.node((await stage.engine()).address)
    node.readiness.set("engine", False)
    got = await node.ask("GET", "/ready")
    assert (got.status, got.error["code"]) == (503, "not_ready")
    assert (await node.ask("GET", "/health")).status == 200
    node.readiness.set("engine", True)
    assert (await node.ask("GET", "/ready")).json == {"status": "ready"}


async def test_a_drain_that_was_called_off_is_forgotten(stage: Any, plan: Any, until: Any) -> None:
    """After an undrain a node serves as before, and hands over again when it must."""
    engine = await stage.engine()
    node = await stage.node(engine.address)
    node.drain.start("test", time.time(), "admin")
    assert (await node.post("/v1/chat/completions", CHAT)).status == 503
    node.drain.cancel()
    got = await node.post("/v1/chat/completions", CHAT)
    assert got.status == 200
    assert "x-goldenfleet-state" not in got.headers
