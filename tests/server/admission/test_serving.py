"""Limits and overload as clients of a gateway see them."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

KEY = "gf_a-key-that-is-long-enough-for-128-bits"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
BODY = {"model": "scripted", "prompt": "x"}
RATE_HEADERS = [f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")]


@pytest.fixture
def serve(stage: Any, tmp_path: Path) -> Any:
    async def start(limits: Any = None, tenant: Any = None, plan: Any = None, **settings: Any) -> Any:
        record = {"id": "a", "tenant": "acme", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
        path = tmp_path / "keys.json"
        tenants = {"acme": {"limits": tenant or {}}}
        path.write_text(json.dumps({"keys": [record | {"limits": limits or {}}], "tenants": tenants}))
        path.chmod(0o600)
        engine = await stage.engine(default=plan)
        gateway = await stage.gateway(engine.address, auth="on", keys=f"file:{path}", **settings)
        gateway.engine = engine
        return gateway

    return start


@pytest.mark.parametrize("body", [BODY, BODY | {"stream": True}])
async def test_limits_are_told_on_answers_and_kept(serve: Any, body: Any) -> None:
    """Streams and whole answers alike; past the limit 429 with a time to come back at."""
    gateway = await serve({"requests_per_minute": 2})
    first = await gateway.post("/v1/completions", body, AUTHORIZED)
    assert [first.headers[name] for name in RATE_HEADERS[:2]] == ["2", "1"]
    assert first.headers[RATE_HEADERS[2]].endswith("s")
    await gateway.post("/v1/completions", body, AUTHORIZED)
    third = await gateway.post("/v1/completions", body, AUTHORIZED)
    assert (third.status, third.error["code"]) == (429, "rate_limit_exceeded")
    assert third.error["type"] == "rate_limit_error"
    assert 0 < int(third.headers["retry-after"]) <= 60
    assert int(third.headers["retry-after-ms"]) <= 30_000
    assert third.headers[RATE_HEADERS[1]] == "0"
    assert len(gateway.engine.asked) == 2


async def test_tokens_are_counted_when_an_answer_ends(serve: Any) -> None:
    """The prompt by its size at first, then both by what the engine says."""
    gateway = await serve({"tokens_per_minute": 100})
    first = await gateway.post("/v1/completions", BODY | {"max_tokens": 12, "stream": True}, AUTHORIZED)
    assert first.status == 200
    taken = 100 - int(first.headers["x-ratelimit-remaining-tokens"])
    assert 0 < taken < 30
    second = await gateway.post("/v1/completions", BODY | {"max_tokens": 12}, AUTHORIZED)
    used = 100 - int(second.headers["x-ratelimit-remaining-tokens"])
    assert used >= 12
    refused = await gateway.post("/v1/completions", {"prompt": "x" * 4000, "model": "scripted"}, AUTHORIZED)
    assert refused.status == 429
    text = gateway.telemetry.exposition().decode()
    assert 'goldenfleet_requests_limited_total{limit="tokens"} 1.0' in text


async def test_a_tenant_s_limit_is_its_keys_together(serve: Any) -> None:
    """Whichever is reached first; the headers tell of the tighter one."""
    gateway = await serve({"requests_per_minute": 50}, {"requests_per_minute": 1})
    first = await gateway.post("/v1/completions", BODY, AUTHORIZED)
    assert [first.headers[name] for name in RATE_HEADERS[:2]] == ["1", "0"]
    assert (await gateway.post("/v1/completions", BODY, AUTHORIZED)).status == 429


async def test_requests_at_a_time_are_limited(serve: Any, plan: Any, until: Any) -> None:
    """429 while as many are under way, and served again when one has ended, however it ended."""
    gateway = await serve({"concurrency": 1}, plan=plan(tokens=2, end="hang"))
    held = asyncio.create_task(gateway.post("/v1/completions", BODY | {"stream": True}, AUTHORIZED))
    await until(lambda: gateway.engine.running == 1)
    refused = await gateway.post("/v1/completions", BODY, AUTHORIZED)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    await until(lambda: gateway.drain.running == 0)
    assert (await gateway.post("/v1/completions", b"{", AUTHORIZED)).status == 400


async def test_without_limits_there_are_no_headers_about_them(serve: Any) -> None:
    """Nothing is told that is not so."""
    gateway = await serve()
    got = await gateway.post("/v1/completions", BODY, AUTHORIZED)
    assert not [name for name in got.headers if name.startswith("x-ratelimit")]


async def test_a_default_limit_holds_without_keys_too(stage: Any) -> None:
    """With authentication off everybody is one principal."""
    gateway = await stage.gateway((await stage.engine()).address, requests_per_minute=1)
    assert (await gateway.post("/v1/completions", BODY)).status == 200
    assert (await gateway.post("/v1/completions", BODY)).status == 429


TIGHT = {"first_tokens_floor": 1, "first_tokens_initial": 1, "first_tokens_ceiling": 1}


async def test_beyond_its_places_a_gateway_queues_and_then_sheds(serve: Any, plan: Any, until: Any) -> None:
    """One waits for its first token, one for a place, and one is refused: 503, retry later."""
    gateway = await serve(plan=plan(tokens=0, end="hang"), queue_size=1, **TIGHT)
    streams = BODY | {"stream": True}
    first = asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED))
    await until(lambda: gateway.engine.running == 1)
    second = asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED))
    await until(lambda: gateway.drain.running == 2)
    third = await gateway.post("/v1/completions", streams, AUTHORIZED)
    assert (third.status, third.error["code"]) == (503, "overloaded")
    assert third.headers["x-should-retry"] == "true"
    assert 1000 <= int(third.headers["retry-after-ms"]) <= 2000
    text = gateway.telemetry.exposition().decode()
    assert 'goldenfleet_requests_shed_total{priority="normal"} 1.0' in text
    assert "goldenfleet_queued 1.0" in text
    assert "goldenfleet_concurrency_limit 1.0" in text
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_a_stream_that_has_begun_holds_no_place(serve: Any, plan: Any, until: Any) -> None:
    """As many as engines take may decode; only what waits for a first token is counted."""
    gateway = await serve(plan=plan(tokens=3, end="hang"), queue_size=0, **TIGHT)
    streams = BODY | {"stream": True}
    tasks = []
    for running in range(1, 5):
        tasks.append(asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED)))
        await until(lambda running=running: gateway.engine.running == running)
        await until(lambda: gateway.app._entrance.admission._slots.in_use == 0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_client_that_leaves_the_queue_leaves_no_trace(serve: Any, plan: Any, until: Any) -> None:
    """Its place in the queue is free at once."""
    gateway = await serve(plan=plan(tokens=0, end="hang"), queue_size=1, **TIGHT)
    streams = BODY | {"stream": True}
    first = asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED))
    await until(lambda: gateway.engine.running == 1)
    second = asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED))
    slots = gateway.app._entrance.admission._slots
    await until(lambda: slots.waiting == 1)
    second.cancel()
    await until(lambda: slots.waiting == 0)
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await until(lambda: slots.in_use == 0)


async def test_who_queues_is_told_when_the_gateway_drains(serve: Any, plan: Any, until: Any) -> None:
    """At the handover the queue is sent elsewhere, not left to be cut."""
    gateway = await serve(plan=plan(tokens=0, end="hang"), **TIGHT)
    streams = BODY | {"stream": True}
    first = asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED))
    await until(lambda: gateway.engine.running == 1)
    second = asyncio.create_task(gateway.post("/v1/completions", streams, AUTHORIZED))
    await until(lambda: gateway.app._entrance.admission._slots.waiting == 1)
    gateway.drain.start("test", 0.0, "test")
    got = await second
    assert (got.status, got.error["code"]) == (503, "node_draining")
    await asyncio.gather(first, return_exceptions=True)


async def test_an_unknown_class_is_refused(serve: Any) -> None:
    """400, in the envelope."""
    gateway = await serve()
    got = await gateway.post("/v1/completions", BODY, AUTHORIZED | {"x-goldenfleet-priority": "urgent"})
    assert (got.status, got.error["code"]) == (400, "invalid_request")


async def test_a_slow_upload_holds_no_place(serve: Any, until: Any) -> None:
    """A place is asked for when the body is here: whoever sends half of one keeps nobody out."""
    gateway = await serve(queue_size=0, **TIGHT)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 500"
    writer.write(f"{head}\r\n\r\n{{".encode())
    await until(lambda: gateway.drain.running == 1)
    got = await gateway.post("/v1/completions", BODY | {"stream": True}, AUTHORIZED)
    assert got.status == 200
    writer.close()
    await until(lambda: gateway.drain.running == 0)
    assert await reader.read() == b""
