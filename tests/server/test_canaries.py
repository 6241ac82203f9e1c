"""A prompt and a key with canaries go every way a request can go, and turn up nowhere that people look."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.routes import ROUTES, Route
from tests.server.otlp import Receiver, receiving

PROMPT = "canary-prompt"
KEY = "sk-canary-key-of-a-length-that-is-taken"
UPSTREAM = "canary-upstream"
CANARY = b"canary"
HEADERS = {
    "authorization": f"Bearer {KEY}",
    "cookie": f"session={KEY}",
    "x-api-key": KEY,
    "user-agent": f"agent {KEY}",
    "x-request-id": f"{KEY} {PROMPT}",
    "traceparent": KEY,
    "tracestate": f"vendor={PROMPT}",
    "baggage": f"user={PROMPT}",
}
REFUSAL = {"message": f"{UPSTREAM} quotes {PROMPT}", "type": "BadRequestError", "param": None, "code": 400}
REFUSAL_BODY = json.dumps({"error": REFUSAL}).encode()


def chat(stream: bool, **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5, "stream": stream}
    return body | {"user": KEY} | more


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
async def looked_at(
    receiver: Receiver, stage: Any, caplog: pytest.LogCaptureFixture
) -> Callable[[Any], Awaitable[None]]:
    """Asserts that no canary is in a log, a metric or a trace of a gateway, and that each was written."""
    caplog.set_level(logging.DEBUG)

    async def look(gateway: Any) -> None:
        await asyncio.to_thread(gateway.tracing.flush)
        assert receiver.spans
        assert gateway.events("request.ended")
        places = {
            "log": gateway.log_lines.getvalue().encode(),
            "metrics": gateway.telemetry.exposition(),
            "traces": bytes(receiver.raw),
            "library logs": caplog.text.encode(),
        }
        assert {name for name, found in places.items() if CANARY in found} == set()

    return look


async def observed(stage: Any, receiver: Receiver, *addresses: str, **settings: Any) -> Any:
    return await stage.gateway(
        *addresses, traces_url=receiver.url, access_log="all", retry_budget_minimum=10, **settings
    )


@pytest.mark.parametrize("stream", [True, False])
async def test_a_success_tells_nothing(receiver: Receiver, stage: Any, looked_at: Any, stream: bool) -> None:
    """A request that goes well is counted, traced and logged without what it says."""
    gateway = await observed(stage, receiver, (await stage.engine()).address)
    got = await gateway.post("/v1/chat/completions", chat(stream), HEADERS)
    assert got.status == 200
    await looked_at(gateway)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"messages": canary-prompt'),
        ("/v1/chat/completions", chat(True, n="canary-prompt")),
        ("/v1/chat/completions", chat(True, stop=["canary-prompt" * 100])),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": "canary"}),
        ("/v1/completions", {"prompt": PROMPT, "stream": "canary"}),
        ("/generate", {"inputs": PROMPT, "parameters": {"temperature": "canary"}}),
        ("/v1/canary-prompt?key=canary", {}),
    ],
)
async def test_a_refusal_tells_nothing(
    receiver: Receiver, stage: Any, looked_at: Any, path: str, body: Any
) -> None:
    """What is wrong with a request is said without quoting it, to the client too."""
    gateway = await observed(stage, receiver, (await stage.engine()).address)
    got = await gateway.post(path, body, HEADERS)
    assert 400 <= got.status < 500
    assert CANARY not in got.body
    assert CANARY not in str(got.headers).encode()
    # So that there is a trace to look at where an unknown path has none.
    await gateway.post("/v1/completions", {"prompt": PROMPT}, HEADERS)
    await looked_at(gateway)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_retry_and_a_resume_tell_nothing(
    receiver: Receiver, stage: Any, plan: Any, looked_at: Any, stream: bool
) -> None:
    """Neither the node that failed nor the one that goes on is told of in the request's own words."""
    engines = [
        await stage.engine(plan(tokens=2, end="reset"), plan(status=500, body=REFUSAL_BODY)) for _ in range(2)
    ]
    gateway = await observed(stage, receiver, *(engine.address for engine in engines))
    for _ in range(3):
        await gateway.post("/v1/chat/completions", chat(stream), HEADERS)
    assert gateway.events("request.resumed" if stream else "request.retried")
    await looked_at(gateway)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
async def test_an_upstream_s_error_text_is_not_relayed(
    receiver: Receiver, stage: Any, plan: Any, looked_at: Any, status: int, stream: bool
) -> None:
    """What an engine says of an error may quote a prompt, a path or an address: the client gets our words."""
    engine = await stage.engine(default=plan(status=status, body=REFUSAL_BODY))
    gateway = await observed(stage, receiver, engine.address, max_attempts=1)
    got = await gateway.post("/v1/chat/completions", chat(stream), HEADERS)
    assert got.status >= 400
    assert CANARY not in got.body
    assert got.error["message"]
    await looked_at(gateway)


async def test_an_upstream_s_error_event_is_not_relayed(
    receiver: Receiver, stage: Any, plan: Any, looked_at: Any
) -> None:
    """Nor is an error inside a stream."""
    engine = await stage.engine(default=plan(tokens=1, end=UPSTREAM))
    gateway = await observed(stage, receiver, engine.address, max_attempts=1)
    got = await gateway.post("/v1/chat/completions", chat(True, n=2), HEADERS)
    assert CANARY not in got.body
    await looked_at(gateway)


async def test_a_crash_of_ours_tells_nothing(
    receiver: Receiver, stage: Any, looked_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug's message may quote the request: the client gets a plain 500, the log its type and place."""

    async def crash(*_: object) -> None:
        raise RuntimeError(f"{PROMPT} {KEY}")

    monkeypatch.setitem(ROUTES["/v1/completions"], "POST", Route("completions", "openai", crash))
    gateway = await observed(stage, receiver, (await stage.engine()).address)
    got = await gateway.post("/v1/completions", {"prompt": PROMPT}, HEADERS)
    assert got.status == 500
    assert CANARY not in got.body
    assert gateway.events("request.failed")
    [line] = gateway.events("request.ended")
    assert (line["outcome"], line["status"]) == ("internal_error", 500)
    await looked_at(gateway)


async def test_keys_good_and_bad_tell_nothing(
    receiver: Receiver, stage: Any, looked_at: Any, tmp_path: Path
) -> None:
    """Whether a key is known, unknown or over its limit, only its id and tenant are ever written."""
    record = {"id": "acme-1", "tenant": "acme", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    kept = tmp_path / "keys.json"
    kept.write_text(json.dumps({"keys": [record | {"limits": {"requests_per_minute": 1}}]}))
    kept.chmod(0o600)
    engine = await stage.engine()
    gateway = await observed(stage, receiver, engine.address, auth="on", keys=f"file:{kept}")
    statuses = []
    for key in (KEY, KEY, f"{KEY}-unknown"):
        got = await gateway.post(
            "/v1/chat/completions", chat(True), HEADERS | {"authorization": f"Bearer {key}"}
        )
        statuses.append(got.status)
        assert got.status == 200 or CANARY not in got.body
    assert statuses == [200, 429, 401]
    assert [line["tenant"] for line in gateway.events("request.ended")] == ["acme", "acme", None]
    await looked_at(gateway)


async def test_a_model_s_name_is_kept_only_if_it_is_one(
    receiver: Receiver, stage: Any, looked_at: Any
) -> None:
    """A prompt that was put where the model's name belongs is in no line, label or span."""
    gateway = await observed(stage, receiver, (await stage.engine()).address)
    await gateway.post("/v1/chat/completions", chat(False, model=f"my {PROMPT}"), HEADERS)
    await looked_at(gateway)


async def test_an_engine_s_headers_stay_behind(stage: Any, plan: Any) -> None:
    """Of an upstream's answer only the headers on our list go on; cookies, servers and traces do not."""
    sent = tuple(
        (name.encode(), b"canary")
        for name in (
            "set-cookie",
            "server",
            "x-powered-by",
            "x-engine-host",
            "traceparent",
            "via",
            "location",
        )
    )
    engine = await stage.engine(default=plan(headers=sent))
    gateway = await stage.gateway(engine.address)
    for stream in (True, False):
        got = await gateway.post("/v1/chat/completions", chat(stream))
        assert "canary" not in str(got.headers)
    got = await gateway.ask("GET", "/v1/models")
    assert set(got.headers) <= {"content-type", "content-length", "date", "x-request-id", "connection"}
