"""Credentials that nobody gave out, of every shape."""

import base64
import hashlib
from random import Random
from typing import Any

import jwt
import pytest
from click.testing import CliRunner

from server.auth.jwks import Jwks
from server.auth.keyfile import UNLIMITED
from server.auth.tokens import TokenRules, Tokens
from server.keys_cli import keys as keys_cli
from tests.server.fuzz.cases import ODD, Raw, cases, damage, each, write_json
from tests.server.fuzz.conftest import check_refusal

KEY = "gf_real-key-that-is-long-enough-for-128-bits"
HEADER = {"alg": "EdDSA", "kid": "ed", "typ": "JWT"}
ISSUER = "https://issuer.example"
CLAIMS = {"iss": ISSUER, "aud": "goldenfleet", "exp": 4e9, "tenant": "acme", "sub": "a"}
CLAIM_NAMES = ["exp", "iat", "nbf", "iss", "aud", "tenant", "sub", "scope", "scp", "models"]
SCHEMES = ["Bearer ", "bearer ", "Bearer", "Bearer\t", "Basic ", "BEARER  ", "Token ", "", "Bearer Bearer "]


def _part(value: Any) -> str:
    raw = write_json(value).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _odd(rng: Random, said: dict[str, Any], names: list[str]) -> Any:
    return rng.choice((said, said | {rng.choice(names): rng.choice(ODD)}, rng.choice(ODD)))


def token(rng: Random) -> str:
    """Three parts or so, whose signature nobody made."""
    parts = [
        _part(_odd(rng, HEADER, ["alg", "kid", "jku", "jwk", "crit", "b64", "x5c", "zip"])),
        _part(_odd(rng, CLAIMS, ["exp", "iss", "aud", "tenant", "sub", "scope", "models", "nbf"])),
        base64.urlsafe_b64encode(rng.randbytes(rng.choice((0, 1, 32, 64, 256)))).rstrip(b"=").decode(),
    ]
    return ".".join(parts[: rng.choice((1, 2, 3, 3, 3, 3))]) + rng.choice(("", "", "", ".", ".x"))


def credential(rng: Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        found = token(rng).encode()
    elif kind == 1:
        found = damage(rng, KEY.encode(), [b"'", b'"', b"%00", b"\xff", b";", b" ", b"\xc3\xa9"])
    elif kind == 2:
        found = damage(rng, token(rng).encode(), [b".", b"=", b"-", b"\xff"])
    else:
        found = rng.randbytes(rng.choice((0, 1, 22, 100, 9000)))
    return bytes(byte for byte in found if byte >= 32 and byte != 127)


async def test_no_made_up_credential_is_let_in(stage: Any, write_keys: Any) -> None:
    """Keys, tokens and noise in every scheme: 401 with one body, or HTTP's own 4xx; never 200, never 500."""
    gateway = await stage.gateway(
        (await stage.engine()).address,
        auth="on",
        keys=write_keys({"key": KEY}),
        auth_failures_per_minute=1_000_000,
    )
    bodies: set[bytes] = set()

    async def check(rng: Random) -> None:
        sent = rng.choice(SCHEMES).encode() + credential(rng)
        if sent.partition(b" ")[2].strip(b" \t") == KEY.encode():
            return
        headers = {"authorization": sent.decode("latin-1")}
        got = await gateway.post("/v1/completions", {"prompt": "x", "model": "scripted"}, headers)
        assert 400 <= got.status < 500, sent
        check_refusal(got.status, got.headers, got.body)
        if got.status == 401:
            bodies.add(got.body)

    await each("credentials", 600, check)
    assert len(bodies) == 1
    assert gateway.events("request.failed") == []


async def verifier(issuer: Any, clock: Any, log: Any) -> Tokens:
    jwks = Jwks(issuer.url, clock=clock, log=log)
    await jwks.load()
    rules = TokenRules(issuer=ISSUER, audience="goldenfleet", tenant_claim="tenant", leeway_s=30)
    return Tokens(jwks, rules, clock=clock, tenant=lambda _: UNLIMITED)


async def test_no_made_up_token_is_trusted(issuer: Any, clock: Any, log: Any) -> None:
    """However its header and claims are made, a token without the issuer's signature raises nothing."""
    tokens = await verifier(issuer, clock, log)
    for case, rng in cases("tokens", 3000):
        made = token(rng)
        assert await tokens.verify(made, hashlib.sha256(made.encode()).digest()) is None, case


async def test_no_signed_nonsense_is_a_bug(issuer: Any, signers: Any, clock: Any, log: Any) -> None:
    """Claims of odd types that the issuer did sign are believed or not, and raise nothing."""
    tokens = await verifier(issuer, clock, log)
    believed = 0
    for case, rng in cases("claims", 1000):
        claims = write_json(_odd(rng, CLAIMS, CLAIM_NAMES)).encode("utf-8", "surrogatepass")
        made = jwt.PyJWS().encode(claims, signers["ed"].private, "EdDSA", {"kid": "ed"})
        principal = await tokens.verify(made, hashlib.sha256(made.encode()).digest())
        assert principal is None or principal.tenant in ("acme", "x"), case
        believed += principal is not None
    assert believed


def test_a_key_has_more_than_128_bits_and_only_its_hash_is_kept() -> None:
    """The key is on stdout alone; the record beside it holds what cannot be turned back."""
    got = CliRunner().invoke(keys_cli, ["new", "--tenant", "acme"])
    assert got.exit_code == 0
    key = got.stdout.strip()
    body = key.partition("_")[2]
    assert len(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) * 8 >= 128
    assert key not in got.stderr
    assert hashlib.sha256(key.encode()).hexdigest() in got.stderr


@pytest.mark.parametrize("exp", ["Infinity", "NaN", "1" + "0" * 400, "1e999", "true", '"4000000000"', "null"])
async def test_no_token_is_good_for_ever(issuer: Any, signers: Any, clock: Any, log: Any, exp: str) -> None:
    """An end that is no time is none, even if the issuer signed it."""
    tokens = await verifier(issuer, clock, log)
    claims = write_json(CLAIMS | {"exp": Raw(exp)}).encode()
    made = jwt.PyJWS().encode(claims, signers["ed"].private, "EdDSA", {"kid": "ed"})
    assert await tokens.verify(made, b"digest") is None
