"""Keys, tenants, scopes and models as clients of a gateway see them."""

import json
from typing import Any

import pytest

KEYS = {name: f"gf_{name}-key-that-is-long-enough-for-128-bits" for name in ("acme", "globex", "reader")}
CANARY = "canary-prompt-that-nobody-logs"


def authorized(name: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}", **headers}


@pytest.fixture
async def gateway(stage: Any, write_keys: Any) -> Any:
    keys = write_keys(
        {"key": KEYS["acme"], "id": "acme-1"},
        {"key": KEYS["globex"], "id": "globex-1", "tenant": "globex", "models": ["large", "tgi"]},
        {"key": KEYS["reader"], "id": "reader-1", "scopes": ["models"]},
        tenants={"acme": {"models": ["scripted"]}},
    )
    return await stage.gateway(
        (await stage.engine()).address, auth="on", keys=keys, auth_failures_per_minute=20
    )


BAD = [
    None,
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer gf_unknown-key-that-is-long-enough"},
    {"authorization": "Bearer ' OR '1'='1"},
    {"authorization": 'Bearer "; DROP TABLE keys'},
    {"authorization": "Bearer éééééééééééééééééééééééé"},
    {"authorization": "Bearer " + "k" * 20_000},
    {"authorization": "Basic YTpi"},
    {"x-api-key": KEYS["acme"]},
    {"authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/generate_stream", "/"])
async def test_every_refusal_of_a_stranger_is_the_same(gateway: Any, path: str) -> None:
    """Status, headers and body say nothing of the cause."""
    answers = [await gateway.post(path, {"prompt": CANARY}, headers) for headers in BAD]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    for answer in answers:
        assert answer.headers["www-authenticate"] == "Bearer"
    names = {tuple(sorted(set(answer.headers) - {"date"})) for answer in answers}
    assert len(names) == 1


async def test_a_stranger_s_body_is_not_read(gateway: Any) -> None:
    """The refusal comes before the body: what nobody answers for is neither stored nor parsed."""
    got = await gateway.post("/v1/completions", b"not json", None)
    assert (got.status, got.error["code"]) == (401, "invalid_api_key")


async def test_probes_need_no_key(gateway: Any) -> None:
    """A balancer has none."""
    assert (await gateway.ask("GET", "/health")).status == 200
    assert (await gateway.ask("GET", "/ready")).status in (200, 503)


async def test_a_key_s_scope_is_the_route_s(gateway: Any) -> None:
    """By the route that is served, whatever Host or an absolute URL say."""
    body = {"model": "scripted", "prompt": "x"}
    got = await gateway.post("/v1/completions", body, authorized("reader", host="admin.local"))
    assert (got.status, got.error["code"]) == (403, "insufficient_scope")
    assert (await gateway.ask("GET", "/v1/models", None, authorized("reader"))).status == 200


@pytest.mark.parametrize(
    ("who", "model", "status"),
    [
        ("acme", "scripted", 200),
        ("acme", "large", 404),
        ("globex", "large", 200),
        ("globex", "scripted", 404),
    ],
)
async def test_a_tenant_has_its_models_only(gateway: Any, who: str, model: str, status: int) -> None:
    """A model of another tenant's is as unknown as one that does not exist."""
    answers = [
        await gateway.post(path, {"model": name, **body, "stream": stream}, authorized(who))
        for path, body in (
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        )
        for stream in (True, False)
        for name in (model, "none-such")
    ]
    assert [answer.status for answer in answers] == [status, 404] * 4
    assert len({answer.body for answer in answers if answer.status == 404}) == 1
    refused = next(answer for answer in answers if answer.status == 404)
    assert refused.error["code"] == "model_not_found"


@pytest.mark.parametrize("model", [None, "tgi", "dummy"])
async def test_a_request_without_a_model_is_for_what_is_served(gateway: Any, model: Any) -> None:
    """A restricted key needs `tgi` among its models for that."""
    body = {"prompt": "x", "model": model}
    assert (await gateway.post("/v1/completions", body, authorized("acme"))).status == 404
    assert (await gateway.post("/v1/completions", body, authorized("globex"))).status == 200
    assert (await gateway.post("/generate", {"inputs": "x"}, authorized("acme"))).status == 404
    assert (await gateway.post("/generate", {"inputs": "x"}, authorized("globex"))).status == 200


@pytest.mark.parametrize(("model", "status"), [(7, 400), (["scripted"], 400), ({}, 400), ("", 404)])
async def test_no_odd_model_gets_around_the_list(gateway: Any, model: Any, status: int) -> None:
    """What is not a name is refused, and a name that is not listed does not exist."""
    for who in ("acme", "globex"):
        for path, body in (("/v1/completions", {"prompt": "x"}), ("/v1/chat/completions", {"messages": []})):
            got = await gateway.post(path, body | {"model": model}, authorized(who))
            assert got.status == status


async def test_a_list_of_models_holds_one_s_own(gateway: Any) -> None:
    """GET /v1/models and TGI's /info name no other tenant's."""
    mine = (await gateway.ask("GET", "/v1/models", None, authorized("acme"))).json
    assert [model["id"] for model in mine["data"]] == ["scripted"]
    theirs = await gateway.ask("GET", "/v1/models", None, authorized("globex"))
    assert theirs.json == {"object": "list", "data": []}
    info = await gateway.ask("GET", "/info", None, authorized("globex"))
    assert info.json["model_id"] == "unknown"
    assert b"scripted" not in info.body


async def test_no_key_and_no_prompt_in_logs_metrics_or_errors(gateway: Any) -> None:
    """A canary of each goes through every answer and is found nowhere but in the answer's own text."""
    for headers in (
        authorized("acme"),
        authorized("globex"),
        {"authorization": "Bearer " + "canary-key" * 5},
    ):
        for body in ({"model": "scripted", "prompt": CANARY}, {"model": CANARY, "prompt": CANARY}, CANARY):
            got = await gateway.post("/v1/completions", body, headers)
            assert CANARY.encode() not in got.body or got.status == 200
    seen = gateway.log_lines.getvalue() + gateway.telemetry.exposition().decode()
    assert CANARY not in seen
    for secret in (*KEYS.values(), "canary-key"):
        assert secret not in seen


async def test_a_stranger_makes_no_series(gateway: Any) -> None:
    """Metrics of refusals are labelled from our own list, not by what was sent."""
    for number in range(5):
        await gateway.post(
            "/v1/completions", {}, {"authorization": f"Bearer gf_guess-number-{number}-of-many"}
        )
    await gateway.post("/v1/completions", {})
    text = gateway.telemetry.exposition().decode()
    lines = [line for line in text.splitlines() if line.startswith("goldenfleet_auth_failures_total")]
    assert sorted(lines) == [
        'goldenfleet_auth_failures_total{reason="missing"} 1.0',
        'goldenfleet_auth_failures_total{reason="unknown"} 5.0',
    ]


async def test_guessing_ends_in_429(gateway: Any) -> None:
    """Past the limit of its peer; a good key goes on being served."""
    bad = {"authorization": "Bearer gf_guess-that-is-long-enough"}
    statuses = [(await gateway.post("/v1/completions", {}, bad)).status for _ in range(22)]
    assert statuses == [401] * 20 + [429] * 2
    good = await gateway.post("/v1/completions", {"model": "scripted", "prompt": "x"}, authorized("acme"))
    assert good.status == 200


@pytest.mark.parametrize(
    "field", ["kv_transfer_params", "bootstrap_host", "custom_logit_processor", "lora_path"]
)
async def test_a_client_does_not_steer_the_engine(gateway: Any, field: str) -> None:
    """Fields by which engines take hosts, paths or code stop here."""
    body = {"model": "scripted", "prompt": "x", field: {"remote_host": "169.254.169.254"}}
    got = await gateway.post("/v1/completions", body, authorized("acme"))
    assert (got.status, got.error["param"]) == (400, field)


async def test_a_client_does_not_choose_the_upstream(stage: Any) -> None:
    """No header, no Host and no absolute target moves a request to another address."""
    engine, other = await stage.engine(), await stage.engine()
    gateway = await stage.gateway(engine.address)
    for headers in (
        {"host": other.address},
        {"x-forwarded-host": other.address},
        {"x-upstream": other.address, "x-envoy-original-dst-host": other.address},
        {"forwarded": f"host={other.address}"},
    ):
        await gateway.post("/v1/completions", {"prompt": "x"}, headers)
    assert len(engine.asked) == 4
    assert other.asked == []
    assert all("authorization" not in head for head in engine.heads)


async def test_a_client_s_key_does_not_reach_the_node(stage: Any, write_keys: Any) -> None:
    """Nodes need no key, so none is handed on."""
    engine = await stage.engine()
    keys = write_keys({"key": KEYS["acme"]})
    gateway = await stage.gateway(engine.address, auth="on", keys=keys)
    await gateway.post("/v1/completions", {"prompt": "x"}, authorized("acme"))
    [head] = engine.heads
    assert KEYS["acme"] not in json.dumps(head)


async def test_a_token_serves_as_a_key(stage: Any, write_keys: Any, issuer: Any, signers: Any) -> None:
    """With its own tenant, models and scopes, beside keys."""
    gateway = await stage.gateway(
        (await stage.engine()).address,
        auth="on",
        keys=write_keys({"key": KEYS["acme"]}, tenants={"globex": {"models": ["scripted"]}}),
        jwt_jwks_url=issuer.url,
        jwt_issuer="https://issuer.example",
        jwt_audience="goldenfleet",
    )
    body = {"model": "scripted", "prompt": "x"}

    async def status(model: str = "scripted", **claims: Any) -> int:
        token = signers["rsa"].token(**claims)
        headers = {"authorization": f"Bearer {token}"}
        got = await gateway.post("/v1/completions", body | {"model": model}, headers)
        return int(got.status)

    assert await status() == 200
    assert await status(scope="generate") == 200
    assert await status(scope="openid") == 403
    assert await status(tenant="globex", models=["large", "scripted"]) == 200
    assert await status("large", tenant="globex", models=["large", "scripted"]) == 404
    assert await status(exp=1) == 401
