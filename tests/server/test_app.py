"""Routes, refusals and request ids of the serving port."""

from typing import Any

import pytest


@pytest.fixture
async def gateway(stage: Any) -> Any:
    return await stage.gateway((await stage.engine()).address, max_body_bytes=4096)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/v1/chat/completions", None, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", None, 405, "method_not_allowed"),
        ("POST", "/health", b"", 405, "method_not_allowed"),
        ("POST", "/v1/completions", b"x" * 5000, 413, "body_too_large"),
        ("POST", "/v1/completions", b"not json", 400, "invalid_request"),
        ("POST", "/v1/completions", b"[]", 400, "invalid_request"),
        ("POST", "/v1/completions", b"[" * 3000, 400, "invalid_request"),
        ("POST", "/v1/completions", b'{"a":' * 40 + b"1" + b"}" * 40, 400, "invalid_request"),
        ("POST", "/v1/completions", b'{"temperature": NaN}', 400, "invalid_request"),
        ("POST", "/v1/completions", b"\xff\xfe", 400, "invalid_request"),
        ("POST", "/v1/completions", {"n": 10**6}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"n": True}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"max_tokens": -1}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"max_tokens": 10**12}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"stop": ["a"] * 5}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"stop": [""]}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"stream": "yes"}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"stream_options": 1}, 400, "invalid_request"),
    ],
)
async def test_every_refusal_has_the_openai_envelope(
    gateway: Any, method: str, path: str, body: Any, status: int, code: str
) -> None:
    """What we refuse is refused in one shape, with a request id."""
    got = await gateway.ask(method, path, body)
    assert (got.status, got.error["code"]) == (status, code)
    assert got.error.keys() == {"message", "type", "param", "code"}
    assert got.headers["x-request-id"]
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/generate", None, 405),
        ("POST", "/", b"not json", 422),
        ("POST", "/", {}, 422),
        ("POST", "/generate", {"inputs": ""}, 422),
        ("POST", "/generate", {"inputs": "x", "parameters": []}, 422),
        ("POST", "/generate", {"inputs": "x", "parameters": {"temperature": 0}}, 422),
        ("POST", "/generate", {"inputs": "x", "parameters": {"decoder_input_details": True}}, 422),
        ("POST", "/generate_stream", {"inputs": "x", "parameters": {"best_of": 2}}, 422),
        ("POST", "/generate", b"x" * 5000, 413),
    ],
)
async def test_every_refusal_on_tgi_s_routes_has_its_envelope(
    gateway: Any, method: str, path: str, body: Any, status: int
) -> None:
    """TGI's clients read `error` and `error_type`."""
    got = await gateway.ask(method, path, body)
    assert (got.status, got.json["error_type"]) == (status, "validation")
    assert got.json.keys() == {"error", "error_type"}
    assert got.headers["x-request-id"]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://0xa9fea9fe/",
        "https://example.org/cat.png",
        "file:///etc/passwd",
        "DATA:image/png;base64,AAAA",
        7,
    ],
)
async def test_media_by_address_is_refused(gateway: Any, url: Any) -> None:
    """No engine is made to fetch an address from inside the network, however it is spelled."""
    part = {"type": "image_url", "image_url": {"url": url}}
    got = await gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]})
    assert (got.status, got.error["param"]) == (400, "messages")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2:3_4", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("é", False), ("", False)],
)
async def test_a_client_s_request_id_is_kept_when_it_is_safe(gateway: Any, given: str, kept: bool) -> None:
    """An id that could break a log or a header is replaced."""
    got = await gateway.ask("GET", "/health", None, {"x-request-id": given})
    assert (got.headers["x-request-id"] == given) is kept
    assert got.headers["x-request-id"]


async def test_every_answer_has_an_id_of_its_own(gateway: Any) -> None:
    """Ids are on answers of every kind, and differ."""
    answers = [
        await gateway.ask("GET", "/v1/models"),
        await gateway.post("/v1/completions", {"prompt": "x"}),
        await gateway.post("/v1/completions", {"prompt": "x", "stream": True}),
        await gateway.post("/generate", {"inputs": "x"}),
        await gateway.ask("GET", "/info"),
        await gateway.ask("GET", "/nowhere"),
    ]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    assert [answer.status for answer in answers] == [200] * 5 + [404]


async def test_a_stream_is_neither_cached_nor_collected(gateway: Any) -> None:
    """Proxies in between are told to pass each event on."""
    got = await gateway.post("/v1/completions", {"prompt": "x", "stream": True})
    assert got.headers["cache-control"] == "no-cache"
    assert got.headers["x-accel-buffering"] == "no"
    assert got.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in got.headers


async def test_info_names_the_model(gateway: Any) -> None:
    """TGI's /info is made from the engine's model list."""
    info = (await gateway.ask("GET", "/info")).json
    assert (info["model_id"], info["max_total_tokens"]) == ("scripted", 300)


async def test_a_gateway_is_ready_once_it_has_had_a_node(stage: Any, until: Any) -> None:
    """A gateway that knows nodes is ready, and stays so while there is none: it holds what comes."""
    gateway = await stage.gateway((await stage.engine()).address)
    await until(lambda: gateway.readiness.ready)
    gateway.nodes.replace({})
    assert (await gateway.ask("GET", "/ready")).json == {"status": "ready"}


async def test_requests_are_counted_by_route_and_outcome(gateway: Any) -> None:
    """Labels come from our own tables, so a client cannot make new ones."""
    await gateway.post("/v1/completions", {"prompt": "x"})
    await gateway.ask("GET", "/nowhere")
    metrics = gateway.telemetry.exposition().decode()
    assert 'goldenfleet_requests_total{outcome="ok",route="completions"} 1.0' in metrics
    assert 'goldenfleet_requests_total{outcome="not_found",route="none"} 1.0' in metrics
