"""What fuzzing found, each once more by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.admission.limits import LocalMeter, Rate
from server.engines.vllm import VLLM
from server.record import Record
from server.resume import Leg, first_leg, next_leg, read
from server.wire.openai import check_generation
from tests.server.fuzz.conftest import Port, responses_in
from tests.server.fuzz.engines import RawEngine

POST = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
UPGRADE = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
BODY = b'{"prompt":"x","max_tokens":2}'
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
NEXT = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("framing", [CHUNKED, LENGTH], ids=["chunked", "length"])
async def test_an_offer_to_upgrade_costs_no_body(
    stage: Any, port: Callable[[Any], Awaitable[Port]], framing: bytes, size: int
) -> None:
    """Java's HttpClient offers h2c with each request: its body is read, and the connection goes on."""
    engine = await stage.engine()
    target = await port(await stage.gateway(engine.address))
    sent = UPGRADE + framing + UPGRADE + framing + NEXT
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    got = responses_in(await target.exchange(pieces), asked=3)
    assert [status for status, _, _ in got] == [200, 200, 200]
    assert [body["prompt"] for _, body in engine.asked] == ["x", "x"]


async def test_an_upgrade_s_body_is_bounded_like_any(
    stage: Any, port: Callable[[Any], Awaitable[Port]]
) -> None:
    """Bytes behind the body are the next request, and a broken chunk is refused."""
    target = await port(await stage.gateway((await stage.engine()).address))
    got = responses_in(await target.exchange([UPGRADE + LENGTH + b"GET / HTTP/1.1\r\n\r\n"]), asked=2)
    assert [status for status, _, _ in got][-1] in (200, 400)
    [(status, _, _)] = responses_in(
        await target.exchange([UPGRADE + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"]), asked=1
    )
    assert status == 400


async def test_a_length_of_many_zeros_is_refused_in_words(
    stage: Any, port: Callable[[Any], Awaitable[Port]]
) -> None:
    """Python reads no number of 5,000 digits: the client is told, and nothing raises into the loop."""
    target = await port(await stage.gateway((await stage.engine()).address))
    async with asyncio.timeout(10):
        got = await target.exchange([POST + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\n{}"])
    [(status, _, body)] = responses_in(got, asked=1)
    assert status == 400
    assert b"digits" in body


HUGE = b"1" + b"0" * 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", b'{"inputs":"x","parameters":{"temperature":%b}}' % HUGE),
        ("/generate", b'{"inputs":"x","parameters":{"repetition_penalty":1e999}}'),
        ("/v1/completions", b'{"prompt":"x","temperature":1e999}'),
        ("/v1/chat/completions", b'{"messages":[],"logit_bias":{"1":-1e999}}'),
    ],
)
async def test_a_number_beyond_all_floats_is_refused(stage: Any, path: str, body: bytes) -> None:
    """It neither ends in a 500 nor goes on to the engine as Infinity, which is no JSON."""
    engine = await stage.engine()
    got = await (await stage.gateway(engine.address)).post(path, body)
    assert got.status in (400, 422)
    assert engine.asked == []


async def says(stage: Any, event: bytes) -> str:
    """The address of an engine that streams `event` and nothing else."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return await RawEngine(lambda *_: [head + b"data: " + event + b"\n\n"]).open(stage.stack)


STREAM = {"prompt": "x", "max_tokens": 2, "stream": True}


@pytest.mark.parametrize("path", ["/v1/completions", "/generate"])
async def test_an_engine_s_endless_nesting_is_its_own_failure(stage: Any, path: str) -> None:
    """JSON too deep for Python's parser is answered as any nonsense of a node is."""
    address = await says(stage, b"[" * 100_000)
    gateway = await stage.gateway(address, max_attempts=1)
    body = STREAM if path == "/v1/completions" else {"inputs": "x"}
    assert (await gateway.post(path, body)).status == 502
    assert gateway.events("request.failed") == []


async def test_an_engine_s_endless_nesting_is_no_list_of_models(stage: Any) -> None:
    """Where the answer must be read, it is refused, not a bug."""
    nested = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000
    gateway = await stage.gateway(await RawEngine(lambda *_: [nested]).open(stage.stack))
    got = await gateway.ask("GET", "/info")
    assert got.status in (200, 502, 503)
    assert gateway.events("request.failed") == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [419, 444, 460, 499])
async def test_a_status_of_an_engine_s_invention_becomes_400(
    stage: Any, plan: Any, status: int, stream: bool
) -> None:
    """There is no such status to send on: the refusal is told with one that there is."""
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status
    gateway = await stage.gateway(await RawEngine(lambda *_: [answer]).open(stage.stack))
    got = await gateway.post("/v1/completions", STREAM | {"stream": stream})
    assert got.status == 400
    event = b'{"error": {"message": "x", "type": "x", "code": %d}}' % status
    gateway = await stage.gateway(await says(stage, event))
    assert (await gateway.post("/v1/completions", STREAM)).status == 400


@pytest.mark.parametrize("code", [401, 403, 408, 424, 429])
async def test_an_error_event_of_the_node_s_own_is_no_fault_of_the_request(stage: Any, code: int) -> None:
    """A stream that begins with it is asked for elsewhere, as a status would be."""
    bad = await says(stage, b'{"error": {"message": "x", "type": "x", "code": %d}}' % code)
    good = await stage.engine()
    gateway = await stage.gateway(bad, good.address, retry_budget_minimum=100)
    for _ in range(6):
        got = await gateway.post("/v1/completions", STREAM)
        assert (got.status, got.data[-1]) == (200, "[DONE]")


async def test_choices_that_are_none_are_passed_by(stage: Any) -> None:
    """An engine's odd whole answer to TGI's chat client is no bug of ours."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"choices":[1]}'
    gateway = await stage.gateway(await RawEngine(lambda *_: [answer]).open(stage.stack))
    body = {"model": "tgi", "messages": [{"role": "user", "content": "x"}]}
    assert (await gateway.post("/v1/chat/completions", body)).status in (200, 502)
    assert gateway.events("request.failed") == []


async def test_a_second_cut_behind_a_resume_by_text_loses_nothing(stage: Any, plan: Any) -> None:
    """vLLM's ids run ahead of its text under a stop string: none is taken for sent after the next cut."""
    record = Record(check_generation("completions", {"prompt": "P", "stop": ["xyz"], "max_tokens": 99}))

    def hear(leg: Leg, text: str, ids: list[int], prompt: list[int] | None = None) -> None:
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": None, "token_ids": ids}
        read(leg, {"choices": [choice | ({"prompt_token_ids": prompt} if prompt else {})]}, record)

    leg = first_leg(record.generation)
    hear(leg, "", [1, 2], [0])
    for text, token in (("a", 3), ("bc", 4), ("d", 5)):
        hear(leg, text, [token])
    leg = next_leg(record, capabilities=VLLM.capabilities)
    assert leg.body["prompt"] == "Pabcd"
    # Its text is still two characters behind when it is cut, too.
    hear(leg, "", [30], [0, 10, 20])
    assert next_leg(record, capabilities=VLLM.capabilities).body["prompt"] in ("Pabcd", [0, 10, 20])


@pytest.mark.parametrize("path", [b"/nowhere", b"/v1/completions"])
async def test_who_is_answered_before_its_body_is_whole_is_told_that_the_connection_ends(
    stage: Any, port: Callable[[Any], Awaitable[Port]], path: bytes
) -> None:
    """A client that thinks the connection stays would lose its next request on it."""
    gateway = await stage.gateway((await stage.engine()).address, requests_per_minute=1)
    await gateway.post("/v1/completions", {"prompt": "x"})
    target = await port(gateway)
    head = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    [(status, headers, _)] = responses_in(await target.exchange([head]), asked=1)
    assert status in (404, 429)
    assert headers["connection"] == "close"


async def test_an_issuer_s_many_subjects_do_not_fill_the_memory() -> None:
    """A default limit gives each subject of a token a bucket: those that say nothing new go first."""
    now = 0.0
    meter = LocalMeter(lambda: now)
    first = Rate("first", "requests", 10)
    for number in range(30_000):
        await meter.take([Rate(f"subject-{number}", "requests", 10)], 0)
        now += 0.001
    assert meter.remembered <= 10_000
    # Who has just used up its limit is not forgotten among them.
    for _ in range(10):
        await meter.take([first], 0)
    for number in range(4000):
        await meter.take([Rate(f"other-{number}", "requests", 10)], 0)
    assert (await meter.take([first], 0)).wait_s
