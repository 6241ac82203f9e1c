"""Traces as a real OTLP/HTTP receiver gets them."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server import traceparent, tracing
from server import tracing_names as names
from server.errors import SettingsError
from server.tracing_export import parse_headers
from tests.server.otlp import Receiver, attributes, receiving

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "model": "scripted"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


async def flushed(*servings: Any) -> None:
    for serving in servings:
        await asyncio.to_thread(serving.tracing.flush)


async def test_a_stream_is_one_generation_with_its_numbers(receiver: Receiver, stage: Any) -> None:
    """The request's span says by the GenAI names which model, how many tokens, how it ended, how soon."""
    engine = await stage.engine()
    gateway = await stage.gateway(engine.address, traces_url=receiver.url)
    await gateway.post("/v1/chat/completions", CHAT | {"stream": True})
    await flushed(gateway)
    [span] = receiver.named("chat")
    found = attributes(span)
    assert span.name == "chat scripted"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert [event.name for event in span.events] == ["admitted"]
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "goldenfleet"
    assert (found["gen_ai.request.model"], found["gen_ai.request.stream"]) == ("scripted", True)
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) > (0, 4)
    assert found["gen_ai.response.finish_reasons"] == ["length"]
    assert 0 < found["gen_ai.response.time_to_first_chunk"] < 15
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 15e9
    assert receiver.resources[0]["service.name"] == "goldenfleet-gateway"


@pytest.mark.parametrize(
    ("path", "body", "operation"),
    [
        ("/v1/chat/completions", CHAT, "chat"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 3}, "text_completion"),
        ("/generate", {"inputs": "x"}, "text_completion"),
    ],
)
async def test_a_whole_answer_is_a_generation_too(
    receiver: Receiver, stage: Any, path: str, body: Any, operation: str
) -> None:
    """Its tokens and finish reason are found without streaming."""
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    await gateway.post(path, body)
    await flushed(gateway)
    [span] = receiver.named(operation)
    found = attributes(span)
    assert found["gen_ai.usage.output_tokens"] > 0
    assert found["gen_ai.usage.input_tokens"] > 0
    assert found["gen_ai.response.finish_reasons"] == ["length"]


async def test_attempts_and_resumes_are_spans_inside_the_request_s(
    receiver: Receiver, stage: Any, plan: Any
) -> None:
    """Which node was asked, how it failed, and how long the client waited for the next."""
    first, second = (
        await stage.engine(plan(tokens=2, end="reset")),
        await stage.engine(plan(tokens=2, end="reset")),
    )
    gateway = await stage.gateway(first.address, second.address, traces_url=receiver.url)
    got = await gateway.post("/v1/chat/completions", CHAT | {"stream": True})
    assert got.data[-1] == "[DONE]"
    await flushed(gateway)
    [request] = receiver.named("chat")
    attempts, [resume, *_] = receiver.named("attempt"), receiver.named("resume")
    inside = [*attempts, *receiver.named("resume")]
    assert {span.trace_id for span in inside} == {request.trace_id}
    assert {span.parent_span_id for span in inside} == {request.span_id}
    assert {attributes(span)["goldenfleet.node"] for span in attempts} <= {first.address, second.address}
    failed = [attributes(span).get("error.type") for span in attempts]
    assert failed[0] == "cut"
    assert failed[-1] is None
    assert attempts[0].status.code == Status.STATUS_CODE_ERROR
    assert attributes(resume)["goldenfleet.resume.mode"] == "tokens"
    assert attributes(resume)["goldenfleet.resume.tokens_before"] == 2
    assert attributes(request)["goldenfleet.resumes"] == len(receiver.named("resume"))
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in inside)


async def test_a_refusal_is_an_error_with_its_code(receiver: Receiver, stage: Any) -> None:
    """Our code, and nothing of what was refused."""
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    await gateway.post("/v1/chat/completions", b"canary")
    await gateway.ask("GET", "/nowhere/canary")
    await flushed(gateway)
    [span] = receiver.spans
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span)["error.type"] == "invalid_request"
    assert attributes(span)["http.response.status_code"] == 400
    assert b"canary" not in receiver.raw


async def test_a_client_s_trace_goes_through_to_the_engine(receiver: Receiver, stage: Any) -> None:
    """Client, gateway, node and engine are one trace; the node's tokens are not counted again."""
    engine = await stage.engine()
    node = await stage.node(engine.address, traces_url=receiver.url)
    gateway = await stage.gateway(node.address, traces_url=receiver.url)
    got = await gateway.post(
        "/v1/chat/completions", CHAT | {"stream": True}, {"traceparent": PARENT, "tracestate": "canary=1"}
    )
    assert got.status == 200
    await flushed(gateway, node)
    [request], [served] = receiver.named("chat"), receiver.named("node chat")
    [outer] = [span for span in receiver.named("attempt") if span.parent_span_id == request.span_id]
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    assert request.parent_span_id.hex() == SPAN
    assert served.parent_span_id == outer.span_id
    assert not any(name.startswith("gen_ai.") for name in attributes(served))
    [inner] = [span for span in receiver.named("attempt") if span.parent_span_id == served.span_id]
    assert engine.heads[0]["traceparent"] == f"00-{TRACE}-{inner.span_id.hex()}-01"
    assert "tracestate" not in engine.heads[0]


@pytest.mark.parametrize("stream", [True, False])
async def test_without_a_receiver_a_client_s_trace_is_passed_on_as_it_is(stage: Any, stream: bool) -> None:
    """A gateway that traces nothing does not break the trace of those around it."""
    engine = await stage.engine()
    gateway = await stage.gateway(engine.address)
    await gateway.post("/v1/chat/completions", CHAT | {"stream": stream}, {"traceparent": PARENT})
    await gateway.post("/v1/chat/completions", CHAT | {"stream": stream}, {"traceparent": "canary"})
    assert [head.get("traceparent") for head in engine.heads] == [PARENT, None]


async def test_what_is_left_out_is_left_out_by_all(receiver: Receiver, stage: Any) -> None:
    """With a share of none nothing is sent, even if a client or a gateway says that it samples."""
    engine = await stage.engine()
    node = await stage.node(engine.address, traces_url=receiver.url)
    gateway = await stage.gateway(node.address, traces_url=receiver.url, traces_share=0)
    await gateway.post("/v1/chat/completions", CHAT | {"stream": True}, {"traceparent": PARENT})
    await gateway.post("/v1/chat/completions", CHAT)
    await flushed(gateway, node)
    assert receiver.spans == []
    assert [head["traceparent"][-2:] for head in engine.heads] == ["00", "00"]
    assert engine.heads[0]["traceparent"].split("-")[1] == TRACE


async def test_the_share_is_kept(receiver: Receiver, stage: Any) -> None:
    """About as many traces are recorded as were asked for."""
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url, traces_share=0.25)
    begun = [gateway.tracing.begin(None, 0.0)[0] for _ in range(2000)]
    assert 400 < sum(trace is not None for trace in begun) < 600


async def test_a_receiver_that_hangs_slows_no_request(receiver: Receiver, stage: Any) -> None:
    """Requests go on while nothing is taken; whole traces beyond the queue are left out, and counted."""
    receiver.gate.clear()
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    for _ in range(40):
        assert (await gateway.post("/v1/chat/completions", CHAT)).status == 200
    for _ in range(tracing.MAX_QUEUE):
        trace, _ = gateway.tracing.begin(None, 0.0)
        if trace is not None:
            trace.attempt("a", 0.0)
            trace.attempt_ended(None, 0.0)
    assert (await gateway.post("/v1/chat/completions", CHAT)).status == 200
    assert 'trace_spans_total{result="skipped"}' in gateway.telemetry.exposition().decode()


async def test_a_receiver_that_is_down_costs_spans_alone(receiver: Receiver, stage: Any) -> None:
    """Failures are counted and logged once, and again when it is back."""
    receiver.status = 400
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    for _ in range(3):
        assert (await gateway.post("/v1/chat/completions", CHAT)).status == 200
        await flushed(gateway)
    receiver.status = 200
    await gateway.post("/v1/chat/completions", CHAT)
    await flushed(gateway)
    assert len(gateway.events("traces.failing")) == 1
    assert len(gateway.events("traces.sent")) == 1
    assert 'trace_spans_total{result="failed"}' in gateway.telemetry.exposition().decode()
    assert receiver.named("chat")


async def test_an_end_does_not_wait_for_a_receiver_that_hangs(receiver: Receiver, stage: Any) -> None:
    """The process ends in its time, whatever is still to be sent."""
    receiver.gate.clear()
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    await gateway.post("/v1/chat/completions", CHAT)
    async with asyncio.timeout(4):
        await gateway.tracing.aclose(0.1)
    receiver.gate.set()


async def test_an_end_leaves_no_thread_that_goes_on_trying(receiver: Receiver, stage: Any) -> None:
    """A receiver that is down is given up with the process's other work."""
    receiver.status = 503
    before = set(threading.enumerate())
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    await gateway.post("/v1/chat/completions", CHAT)
    [sending] = [thread for thread in set(threading.enumerate()) - before if "Otel" in thread.name]
    await gateway.tracing.aclose(0.1)
    await asyncio.to_thread(sending.join, 2)
    assert not sending.is_alive()


async def test_the_key_for_langfuse_comes_from_a_file_and_is_in_no_log(
    receiver: Receiver, stage: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Basic auth at /api/public/otel, as Langfuse documents it; the setting only says where the key is."""
    kept = tmp_path / "headers"
    kept.write_text("Authorization=Basic cGstbGYtY2FuYXJ5,x-langfuse-ingestion-version=4\n")
    kept.chmod(0o600)
    gateway = await stage.gateway(
        (await stage.engine()).address, traces_url=receiver.url, traces_headers=f"file:{kept}"
    )
    with caplog.at_level(logging.DEBUG):
        await gateway.post("/v1/chat/completions", CHAT)
        await flushed(gateway)
    assert receiver.paths == ["/api/public/otel/v1/traces"]
    assert receiver.headers[0]["authorization"] == "Basic cGstbGYtY2FuYXJ5"
    assert receiver.headers[0]["content-type"] == "application/x-protobuf"
    assert "cGstbGYtY2FuYXJ5" not in caplog.text + gateway.log_lines.getvalue()


async def test_the_standard_environment_gives_the_headers_too(
    receiver: Receiver, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_EXPORTER_OTLP_HEADERS is what every receiver's manual names."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20abc")
    gateway = await stage.gateway((await stage.engine()).address, traces_url=receiver.url)
    await gateway.post("/v1/chat/completions", CHAT)
    await flushed(gateway)
    assert receiver.headers[0]["authorization"] == "Basic abc"


@pytest.mark.parametrize("text", ["", "canary", "=canary", "a=b,canary", "a=ca\nnary"])
def test_headers_that_are_none_are_refused_unquoted(text: str) -> None:
    """The error says what is wrong, and not what it read."""
    with pytest.raises(SettingsError, match="traces_headers") as refused:
        parse_headers(text)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("stream", [True, False])
async def test_prompts_and_answers_are_traced_only_where_that_is_switched_on(
    receiver: Receiver, stage: Any, stream: bool
) -> None:
    """`trace_content` puts both into the span, in the conventions' message format."""
    engine = await stage.engine()
    silent = await stage.gateway(engine.address, traces_url=receiver.url)
    await silent.post("/v1/chat/completions", CHAT | {"stream": stream})
    await flushed(silent)
    assert names.INPUT_MESSAGES not in attributes(receiver.named("chat")[0])
    telling = await stage.gateway(engine.address, traces_url=receiver.url, trace_content=True)
    got = await telling.post("/v1/chat/completions", CHAT | {"stream": stream})
    await flushed(telling)
    found = attributes(receiver.named("chat")[1])
    assert json.loads(found[names.INPUT_MESSAGES]) == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    ]
    text = got.text if stream else got.json["choices"][0]["message"]["content"]
    assert text
    assert json.loads(found[names.OUTPUT_MESSAGES]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": text}]}
    ]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "canary",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        PARENT + "\n",
        PARENT * 2,
    ],
)
def test_a_traceparent_that_is_none_is_ignored(header: str | None) -> None:
    """W3C Trace Context: what does not parse starts a new trace, and goes nowhere."""
    assert traceparent.read(header) is None
    assert traceparent.forwarded(header) == []


def test_a_later_version_s_traceparent_is_read_as_ours() -> None:
    """What a later version appends is dropped."""
    assert traceparent.forwarded(f"cc-{TRACE}-{SPAN}-01-more") == [(b"traceparent", PARENT.encode())]
