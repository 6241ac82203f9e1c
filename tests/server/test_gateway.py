"""What a gateway does when a node fails a request before its first byte, and what clients are told."""

import asyncio
from typing import Any

import pytest

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
DRAINING = (b"x-goldenfleet-state", b"draining")


def reset(plan: Any) -> Any:
    return plan(end="reset")


def draining(plan: Any) -> Any:
    return plan(status=503, headers=(DRAINING,))


def broken(plan: Any) -> Any:
    return plan(status=500)


def cut_body(plan: Any) -> Any:
    return plan(tokens=0, end="eof")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failing", [reset, draining, broken, cut_body])
async def test_a_request_that_a_node_fails_goes_to_another(
    stage: Any, plan: Any, failing: Any, stream: bool
) -> None:
    """Whatever fails before the first byte is tried on another node, and the client does not notice."""
    bad, good = await stage.engine(default=failing(plan)), await stage.engine()
    gateway = await stage.gateway(bad.address, good.address, retry_budget_minimum=10)
    async with asyncio.timeout(15):
        while not bad.asked:
            got = await gateway.post("/v1/chat/completions", CHAT | {"stream": stream})
            assert (got.status, got.clean) == (200, True)
    assert good.asked
    assert gateway.events("request.retried")


@pytest.mark.parametrize(
    "whole",
    [
        b"",
        b"<html>Bad gateway</html>",
        b'{"error": {"message": "secret of the node"}}',
        b'{"id": "x", "choices": [{"text": "ha',
        b'["choices"]',
    ],
)
async def test_an_answer_that_is_no_completion_is_not_passed_on(stage: Any, plan: Any, whole: bytes) -> None:
    """Whatever a node sends with 200 in its place, another node is asked."""
    bad, good = await stage.engine(default=plan(whole=whole)), await stage.engine()
    gateway = await stage.gateway(bad.address, good.address)
    async with asyncio.timeout(15):
        while not bad.asked:
            got = await gateway.post("/v1/chat/completions", CHAT)
            assert (got.status, "choices" in got.json) == (200, True)
    assert gateway.events("request.retried")[0]["reason"] == "malformed"


async def test_an_engine_that_shuts_down_loses_no_answer(stage: Any, plan: Any) -> None:
    """It ends all that runs with "abort" under 200: each is asked for again, and no retry budget pays."""
    engines = [await stage.engine(default=plan(end="abort")), await stage.engine()]
    nodes = [await stage.node(engine.address) for engine in engines]
    gateway = await stage.gateway(*(node.address for node in nodes))
    answers = await asyncio.gather(*(gateway.post("/v1/chat/completions", CHAT) for _ in range(24)))
    assert {answer.json["choices"][0]["finish_reason"] for answer in answers} == {"length"}
    assert len(gateway.events("request.retried")) >= 6


async def test_a_node_that_refuses_connections_is_left(stage: Any) -> None:
    """A dead node costs no request, and only the first few even notice it."""
    good = await stage.engine()
    gateway = await stage.gateway("127.0.0.1:1", good.address)
    answers = [await gateway.post("/v1/chat/completions", CHAT) for _ in range(10)]
    assert [answer.status for answer in answers] == [200] * 10
    assert {event["reason"] for event in gateway.events("request.retried")} == {"connect"}
    assert len(gateway.events("request.retried")) < 5


async def test_a_draining_node_is_left_at_once(stage: Any, plan: Any) -> None:
    """A node that serves but says it drains gets no further request while another is there."""
    leaving = await stage.engine(default=plan(headers=(DRAINING,)))
    staying = await stage.engine()
    gateway = await stage.gateway(leaving.address, staying.address)
    for _ in range(12):
        assert (await gateway.post("/v1/chat/completions", CHAT | {"stream": True})).data[-1] == "[DONE]"
    assert len(leaving.asked) <= 1


async def test_a_request_is_never_tried_twice_on_one_node(stage: Any, plan: Any) -> None:
    """Three attempts go to three nodes."""
    engines = [await stage.engine(default=plan(status=500)) for _ in range(3)]
    gateway = await stage.gateway(*(engine.address for engine in engines))
    got = await gateway.post("/v1/chat/completions", CHAT)
    assert [len(engine.asked) for engine in engines] == [1, 1, 1]
    assert (got.status, got.error["code"]) == (502, "nodes_failed")
    assert got.headers["x-should-retry"] == "false"
    assert b"secret of the node" not in got.body


@pytest.mark.parametrize("stream", [True, False])
async def test_nodes_that_take_nothing_cost_no_attempt(stage: Any, plan: Any, stream: bool) -> None:
    """When half a fleet drains or is gone at once, a request still finds the node that is there."""
    gone = [f"127.0.0.1:{port}" for port in (1, 2)]
    leaving = [(await stage.engine(default=plan(status=503, headers=(DRAINING,)))).address for _ in range(3)]
    good = await stage.engine()
    for _ in range(4):
        gateway = await stage.gateway(*gone, *leaving, good.address, retry_budget_minimum=0)
        got = await gateway.post("/v1/chat/completions", CHAT | {"stream": stream})
        assert (got.status, got.clean) == (200, True)


@pytest.mark.parametrize(("status", "told"), [(500, 502), (503, 503), (429, 503)])
async def test_the_budget_bounds_what_a_sick_fleet_is_asked(
    stage: Any, plan: Any, status: int, told: int
) -> None:
    """When every node fails, retries stop at the budget, and clients are told not to retry either."""
    engine = await stage.engine(default=plan(status=status))
    gateway = await stage.gateway(engine.address, retry_budget_minimum=3)
    answers = [await gateway.post("/v1/chat/completions", CHAT) for _ in range(10)]
    assert {answer.status for answer in answers} == {told}
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}
    assert len(engine.asked) == 13


async def test_an_engine_s_refusal_is_passed_on_and_not_retried(stage: Any, plan: Any) -> None:
    """What the engine finds wrong with a request, another would too."""
    body = b'{"error":{"message":"too long","type":"invalid_request_error","param":"prompt","code":"long"}}'
    engines = [await stage.engine(default=plan(status=400, body=body)) for _ in range(2)]
    gateway = await stage.gateway(*(engine.address for engine in engines))
    got = await gateway.post("/v1/completions", {"prompt": "x"})
    assert got.status == 400
    assert got.error == {
        "message": "The engine refused the request for its `prompt`: check its value.",
        "type": "invalid_request_error",
        "param": "prompt",
        "code": "invalid_request",
    }
    assert sum(len(engine.asked) for engine in engines) == 1


async def test_a_request_is_held_until_a_node_is_ready(stage: Any, until: Any) -> None:
    """With no node ready a request waits, and is served by the first that comes."""
    engine = await stage.engine()
    gateway = await stage.gateway(engine.address)
    await until(lambda: gateway.nodes.nodes)
    gateway.nodes.replace({})
    task = asyncio.create_task(gateway.post("/v1/completions", {"prompt": "x"}))
    await until(lambda: gateway.drain.running == 1)
    gateway.nodes.replace(engine.found)
    assert (await task).status == 200


async def test_a_request_that_no_node_could_take_by_its_deadline_may_be_sent_again(stage: Any) -> None:
    """Held to its deadline, a request is refused with a time to come back."""
    gateway = await stage.gateway("127.0.0.1:1", nodes_poll_seconds=60)
    gateway.nodes.replace({})
    got = await gateway.post("/v1/completions", {"prompt": "x"}, {"x-request-timeout-ms": "30"})
    assert got.status in (503, 504)
    assert got.error["code"] in ("no_node_ready", "deadline_exceeded")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_node_at_once(
    stage: Any, plan: Any, until: Any, stream: bool
) -> None:
    """Leaving cancels the request upstream, before and inside its answer."""
    engine = await stage.engine(default=plan(tokens=2 if stream else None, end="hang"))
    gateway = await stage.gateway(engine.address)
    task = asyncio.create_task(gateway.post("/v1/chat/completions", CHAT | {"stream": stream}))
    await until(lambda: engine.running == 1)
    task.cancel()
    await until(lambda: engine.running == 0)
    await until(lambda: gateway.drain.running == 0)
    assert len(engine.asked) == 1


async def test_a_silent_stream_is_kept_alive(stage: Any, plan: Any, until: Any) -> None:
    """While a node thinks, the client gets comments, and then the stream."""
    engine = await stage.engine(plan(end="hang"))
    gateway = await stage.gateway(engine.address, heartbeat_seconds=0.01)
    async with gateway.session.post(
        gateway.url + "/v1/chat/completions", json=CHAT | {"stream": True}
    ) as response:
        first = await response.content.readexactly(16)
        engine.release.set()
        rest = await response.content.read()
    assert first == b": ping\n\n: ping\n\n"
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_a_node_that_falls_silent_is_given_up(stage: Any, plan: Any, until: Any) -> None:
    """A stream whose node vanished without a word is resumed elsewhere."""
    silent, good = await stage.engine(default=plan(tokens=2, end="hang")), await stage.engine()
    gateway = await stage.gateway(silent.address, silence_seconds=0.05)
    task = asyncio.create_task(gateway.post("/v1/chat/completions", CHAT | {"stream": True}))
    await until(lambda: silent.asked)
    gateway.nodes.replace(good.found)
    got = await task
    assert (got.clean, got.data[-1]) == (True, "[DONE]")
    assert gateway.events("request.resumed")[0]["reason"] == "timeout"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_gateway_that_hands_over_says_so(stage: Any, plan: Any, until: Any, stream: bool) -> None:
    """At the handover a stream ends in node_draining, and a plain request in a 503 that may be sent again."""
    engine = await stage.engine(default=plan(tokens=2 if stream else None, end="hang"))
    gateway = await stage.gateway(engine.address)
    task = asyncio.create_task(gateway.post("/v1/chat/completions", CHAT | {"stream": stream}))
    await until(lambda: engine.running == 1)
    gateway.drain.start("test", 0.0, "admin")
    got = await task
    assert got.error["code"] == "node_draining"
    assert (got.status, got.clean) == (200 if stream else 503, True)
    assert b"[DONE]" not in got.body
    await until(lambda: engine.running == 0)


async def test_nothing_of_the_client_but_its_body_goes_upstream(stage: Any) -> None:
    """Keys, cookies and forwarding headers stay at the gateway; the request's id goes on."""
    engine = await stage.engine()
    gateway = await stage.gateway(engine.address)
    sent = {"authorization": "Bearer k", "cookie": "c=1", "x-forwarded-for": "1.2.3.4", "x-request-id": "abc"}
    got = await gateway.post("/v1/chat/completions", CHAT, sent)
    assert set(engine.heads[0]) == {"content-type", "accept", "x-request-id", "host", "content-length"}
    assert engine.heads[0]["x-request-id"] == got.headers["x-request-id"] == "abc"


async def test_prompts_and_answers_are_in_no_log_and_no_metric(stage: Any, plan: Any) -> None:
    """A canary in the prompt and in a header appears nowhere that people look."""
    engine = await stage.engine(plan(tokens=2, end="reset"))
    gateway = await stage.gateway(engine.address)
    body = {"messages": [{"role": "user", "content": "canary"}], "max_tokens": 5, "stream": True}
    await gateway.post("/v1/chat/completions", body, {"authorization": "Bearer canary"})
    await gateway.post("/v1/chat/completions", b'{"messages": canary')
    assert gateway.events("request.resumed")
    assert (
        'first_token_seconds_count{model="other",route="chat"} 1.0' in gateway.telemetry.exposition().decode()
    )
    assert "canary" not in gateway.log_lines.getvalue()
    assert b"canary" not in gateway.telemetry.exposition()
