"""Each engine in its own words, behind a node and a gateway: no client sees its ways, or a cut."""

import asyncio
import json
from typing import Any

import pytest

from server.engine_watch import EngineProbe
from server.engines import ADAPTERS, ENGINE_HEADER
from server.http.client import UpstreamPool
from server.http.server import HttpServer
from server.readiness import Readiness
from tests.server.engines.replay import FAILS, PIECES, PROMPT, REFUSED, ReplayEngine, load_shape

KINDS = ["vllm", "sglang", "tgi", "llama-server"]
ROUTES = ["chat", "completions"]
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
ALL = "".join(PIECES)
# None, one that lies over three tokens, one of one character, and one that never comes.
STOPS = [None, ["STOPS"], "t; STO", ";", ["never", "STOP!"]]


def asked(route: str, prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    said = {"messages": [{"role": "user", "content": prompt}]} if route == "chat" else {"prompt": prompt}
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 16, "model": "qwen"}
    return said | options | more


async def replay(stage: Any, kind: str) -> ReplayEngine:
    engine = ReplayEngine(load_shape(kind))
    server = HttpServer(engine.handle)
    engine.address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
    stage.stack.push_async_callback(server.aclose, 0)
    return engine


async def node(stage: Any, kind: str) -> tuple[ReplayEngine, Any]:
    engine = await replay(stage, kind)
    return engine, await stage.node(engine.address, engine=kind)


def chunks(answer: Any) -> list[dict[str, Any]]:
    return [item for item in answer.data if isinstance(item, dict)]


def reasons(answer: Any) -> list[str]:
    found = [choice.get("finish_reason") for chunk in chunks(answer) for choice in chunk["choices"]]
    return [reason for reason in found if reason is not None]


def expected_text(kind: str, stop: Any) -> str:
    """As the engine ends it: TGI keeps the stop string, SGLang sends it until it is found."""
    if kind == "sglang" and stop is not None:
        events = ReplayEngine(load_shape(kind)).events("completions", {"prompt": PROMPT, "stop": stop})
        return "".join(choice["text"] for event in events for choice in event["choices"])
    for word in [stop] if isinstance(stop, str) else stop or ():
        if word in ALL:
            at = ALL.index(word)
            return ALL[: at + len(word)] if kind == "tgi" else ALL[:at]
    return ALL


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_is_openai_s_whatever_the_engine(stage: Any, kind: str, route: str) -> None:
    """Text, one finish reason of OpenAI's, usage and [DONE]; the fields that we asked for stay with us."""
    _, serving = await node(stage, kind)
    got = await (await stage.gateway(serving.address)).post(PATHS[route], asked(route))
    assert (got.status, got.text, got.clean, got.data[-1]) == (200, ALL, True, "[DONE]")
    assert reasons(got) == ["stop"]
    usage = [chunk["usage"] for chunk in chunks(got) if chunk.get("usage")]
    assert [item["completion_tokens"] for item in usage] == [len(PIECES)]
    assert b"token_ids" not in got.body


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_goes_on_after_a_cut_at_any_event(stage: Any, kind: str, route: str) -> None:
    """Cut anywhere, stop strings that straddle the cut and all: the client reads the undisturbed answer."""
    ways = [await _way(stage, kind) for _ in range(2)]
    for stop in STOPS:
        more = {} if stop is None else {"stop": stop}
        for events in range(len(PIECES) + 2):
            for cutter, _ in ways:
                cutter.events = events
            gateway = await stage.gateway(*(serving.address for _, serving in ways))
            got = await gateway.post(PATHS[route], asked(route, **more))
            assert (got.clean, got.data[-1]) == (True, "[DONE]"), (stop, events)
            assert got.text == expected_text(kind, stop), (stop, events)
            assert reasons(got) == ["stop"], (stop, events)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_more_tokens_than_were_asked_for(stage: Any, kind: str, route: str) -> None:
    """max_tokens holds over both parts, wherever the cut is."""
    ways = [await _way(stage, kind) for _ in range(2)]
    for most in (1, 7):
        for events in range(most + 2):
            for cutter, _ in ways:
                cutter.events = events
            gateway = await stage.gateway(*(serving.address for _, serving in ways))
            got = await gateway.post(PATHS[route], asked(route, max_tokens=most))
            assert (got.text, reasons(got)) == ("".join(PIECES[:most]), ["length"]), (most, events)


async def _way(stage: Any, kind: str) -> tuple[Any, Any]:
    """A node whose way to its engine can be cut."""
    engine = await replay(stage, kind)
    cutter = await stage.cutter(engine.address, -1)
    return cutter, await stage.node(cutter.address, engine=kind)


@pytest.mark.parametrize(
    ("kind", "route", "exact"),
    [
        ("vllm", "chat", True),
        ("vllm", "completions", True),
        ("sglang", "chat", False),
        ("sglang", "completions", True),
        ("tgi", "chat", False),
        ("llama-server", "completions", False),
    ],
)
async def test_ids_are_continued_where_the_engine_gives_them(
    stage: Any, kind: str, route: str, exact: bool
) -> None:
    """Token-exact where ids come, by text elsewhere, and the log says which."""
    cutter, serving = await _way(stage, kind)
    cutter.events = 6
    gateway = await stage.gateway(serving.address)
    await gateway.post(PATHS[route], asked(route))
    assert [event["mode"] for event in gateway.events("request.resumed")] == ["tokens" if exact else "text"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_is_passed_on_in_openai_s_envelope(stage: Any, kind: str, stream: bool) -> None:
    """A prompt too long is OpenAI's error with the engine's status, however the engine puts it."""
    engine, serving = await node(stage, kind)
    gateway = await stage.gateway(serving.address)
    got = await gateway.post(PATHS["completions"], asked("completions", REFUSED, stream=stream))
    assert {"status": got.status, "code": got.error["code"]} == engine.shape["refusal"]["said"]
    assert len(engine.asked) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_in_a_stream_is_not_its_end(stage: Any, kind: str) -> None:
    """An engine that fails in the middle, [DONE] or not, is continued, and its words stay inside."""
    _, failing = await node(stage, kind)
    gateway = await stage.gateway(failing.address)
    got = await gateway.post(PATHS["completions"], asked("completions", FAILS, max_tokens=4))
    assert (got.text, got.data[-1]) == ("".join(PIECES[:4]), "[DONE]")
    assert len(gateway.events("request.resumed")) >= 1
    assert not any(word in got.body for word in (b"CUDA", b"EngineCore", b"aborted", b"Compute"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_says_what_its_engine_is(stage: Any, kind: str) -> None:
    """Gateways learn from each answer what its engine can continue; clients of a gateway do not see it."""
    _, serving = await node(stage, kind)
    answer = await serving.post(PATHS["completions"], asked("completions"))
    assert answer.headers[ENGINE_HEADER] == kind
    gateway = await stage.gateway(serving.address)
    answer = await gateway.post(PATHS["completions"], asked("completions"))
    assert ENGINE_HEADER not in answer.headers


@pytest.mark.parametrize("kind", KINDS)
async def test_an_engine_may_be_a_gateway_s_node_itself(stage: Any, kind: str) -> None:
    """With upstream_engine a gateway speaks to bare engines as a node of ours would."""
    engine = await replay(stage, kind)
    cutter = await stage.cutter(engine.address, 4)
    gateway = await stage.gateway(cutter.address, upstream_engine=kind)
    for route in ROUTES:
        cutter.events = 4
        got = await gateway.post(PATHS[route], asked(route, stop="STOPS"))
        assert (got.text, reasons(got)) == (expected_text(kind, "STOPS"), ["stop"])


@pytest.mark.parametrize("kind", KINDS)
async def test_models_have_a_context_length(stage: Any, kind: str) -> None:
    """`max_model_len` is there for every engine that tells its context at all."""
    _, serving = await node(stage, kind)
    [model] = (await serving.ask("GET", "/v1/models")).json["data"]
    assert model.get("max_model_len") == (None if kind == "tgi" else 8192)


class Log:
    def info(self, event: str, **fields: object) -> None:
        pass


def probe_of(engine: ReplayEngine, kind: str, pool: UpstreamPool, readiness: Readiness) -> EngineProbe:
    async def stop(_: float) -> None:
        raise asyncio.CancelledError

    return EngineProbe(
        f"http://{engine.address}",
        ADAPTERS[kind],
        pool,
        readiness,
        log=Log(),
        interval_s=1,
        timeout_s=10,
        start_s=10,
        clock=lambda: 0.0,
        sleep=stop,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_makes_ready_and_metrics_tell_the_load(stage: Any, kind: str) -> None:
    """The probe understands each engine, and reads queue, running and KV use under its own names."""
    engine = await replay(stage, kind)
    pool, readiness = UpstreamPool(), Readiness(["engine"], bool)
    stage.stack.push_async_callback(pool.aclose)
    probe = probe_of(engine, kind, pool, readiness)
    with pytest.raises(asyncio.CancelledError):
        await probe.run()
    assert readiness.ready
    load = probe.load
    assert [load.queued, load.running, load.kv_used_ratio] == engine.shape["load"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if load_shape(kind)["loading"] is not None])
async def test_an_engine_that_loads_behind_an_open_port_is_not_ready(stage: Any, kind: str) -> None:
    """503 while it loads, with whatever body."""
    engine = await replay(stage, kind)
    engine.loading = True
    pool, readiness = UpstreamPool(), Readiness(["engine"], bool)
    stage.stack.push_async_callback(pool.aclose)
    assert await probe_of(engine, kind, pool, readiness).problem() == "the engine answered 503"


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_names_its_source(kind: str) -> None:
    """What is replayed can be looked up: repository, file, version."""
    shape = load_shape(kind)
    assert shape["source"]
    assert shape["version"]
    assert json.dumps(shape["chat"]["token"]).count("$text") == 1


async def test_a_model_that_failed_is_not_the_client_s_fault(stage: Any) -> None:
    """TGI's 424 is a failure of the engine: no client reads of it as of its own mistake."""
    engine, serving = await node(stage, "tgi")
    failed = {"error": "Request failed during generation: CUDA out of memory", "error_type": "generation"}
    engine.shape["refusal"] = {"status": 424, "body": failed}
    gateway = await stage.gateway(serving.address)
    got = await gateway.post(PATHS["completions"], asked("completions", REFUSED, stream=False))
    assert (got.status, got.error["code"]) == (502, "nodes_failed")
    assert b"CUDA" not in got.body


@pytest.mark.parametrize("more", [{}, {"temperature": 1.0, "seed": 11}, {"stop": "zzzz"}])
async def test_the_embedded_engine_goes_on_bit_by_bit(stage: Any, trained: Any, more: dict[str, Any]) -> None:
    """The real one behind a node: cut at any event, sampled or not, it says what it would have said."""
    cutter = await stage.cutter(await stage.embedded(trained), -1)
    serving = await stage.node(cutter.address, engine="embedded")
    body = asked("completions", "A notice is", model="goldenfleet-embedded", max_tokens=8, **more)
    wanted = await (await stage.gateway(serving.address)).post(PATHS["completions"], body)
    for events in range(9):
        cutter.events = events
        gateway = await stage.gateway(serving.address)
        got = await gateway.post(PATHS["completions"], body)
        assert (got.text, got.data[-2]["usage"]) == (wanted.text, wanted.data[-2]["usage"]), events
        assert {event["mode"] for event in gateway.events("request.resumed")} <= {"tokens"}
