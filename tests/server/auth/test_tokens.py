"""Tokens: what is trusted, and every way of not being."""

import base64
import hashlib
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.auth.jwks import Jwks
from server.auth.keyfile import UNLIMITED, TenantRecord
from server.auth.tokens import TokenRules, Tokens

ISSUER, AUDIENCE = "https://issuer.example", "goldenfleet"


@pytest.fixture
async def tokens(issuer: Any, clock: Any, log: Any) -> Tokens:
    jwks = Jwks(issuer.url, clock=clock, log=log)
    await jwks.load()
    rules = TokenRules(ISSUER, AUDIENCE, "tenant", 30.0)
    return Tokens(jwks, rules, clock=time.time, tenant=lambda _: UNLIMITED)


async def verified(tokens: Tokens, token: str) -> Any:
    return await tokens.verify(token, hashlib.sha256(token.encode()).digest())


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("name", ["rsa", "ec", "ed"])
async def test_a_good_token_of_each_algorithm_is_known(tokens: Tokens, signers: Any, name: str) -> None:
    """Claims become tenant, scopes and models."""
    token = signers[name].token(scope="generate openid", models=["m"])
    principal = await verified(tokens, token)
    assert (principal.tenant, principal.key_id) == ("acme", "jwt/acme/a")
    assert principal.scopes == {"generate", "openid"}
    assert principal.models == {"m"}


@pytest.mark.parametrize(
    ("headers", "claims"),
    [
        ({}, {"exp": ...}),
        ({}, {"iss": ...}),
        ({}, {"aud": ...}),
        ({}, {"exp": 1}),
        ({}, {"exp": time.time() - 31}),
        ({}, {"exp": "soon"}),
        ({}, {"exp": True}),
        ({}, {"nbf": time.time() + 86_400}),
        ({}, {"iat": time.time() + 86_400}),
        ({}, {"iss": "https://other.example"}),
        ({}, {"iss": [ISSUER]}),
        ({}, {"aud": "another"}),
        ({}, {"aud": []}),
        ({}, {"tenant": ...}),
        ({}, {"tenant": ["acme"]}),
        ({}, {"tenant": "a/b"}),
        ({}, {"tenant": ""}),
        ({}, {"tenant": "acme\n"}),
        ({}, {"scope": 7}),
        ({}, {"scope": [7]}),
        ({}, {"models": "m"}),
        ({}, {"models": []}),
        ({}, {"models": [1]}),
        ({"kid": "unknown"}, {}),
        ({"jku": "http://127.0.0.1/jwks"}, {}),
        ({"jwk": {"kty": "RSA"}}, {}),
        ({"x5u": "http://127.0.0.1/cert"}, {}),
        ({"x5c": ["AAAA"]}, {}),
        ({"crit": ["exp"]}, {}),
        ({"crit": ["b64"], "b64": True}, {}),
    ],
)
async def test_a_token_that_says_the_wrong_thing_is_not_trusted(
    tokens: Tokens, signers: Any, headers: dict[str, Any], claims: dict[str, Any]
) -> None:
    """exp, iss and aud must be there and right, and no header may say how to check."""
    assert await verified(tokens, signers["rsa"].token(headers, **claims)) is None
    assert tokens.remembered == 0


async def test_a_clock_that_is_a_little_off_is_forgiven(tokens: Tokens, signers: Any) -> None:
    """Within the leeway, which settings bound to 60 s."""
    assert await verified(tokens, signers["rsa"].token(exp=time.time() - 20)) is not None


async def test_no_signature_is_not_trusted(tokens: Tokens, signers: Any) -> None:
    """alg none, in any case, with and without a signature."""
    _, claims, signature = signers["rsa"].token().split(".")
    for algorithm in ("none", "None", "NONE", "nOnE"):
        header = segment({"alg": algorithm, "typ": "JWT", "kid": "rsa"})
        for end in ("", signature):
            assert await verified(tokens, f"{header}.{claims}.{end}") is None


async def test_a_public_key_is_no_secret(tokens: Tokens, signers: Any) -> None:
    """HS256 signed with the public key's bytes, which anybody has."""
    public = signers["rsa"].private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _, claims, _ = signers["rsa"].token().split(".")
    signed = segment({"alg": "HS256", "typ": "JWT", "kid": "rsa"}) + "." + claims
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(key.sign(signed.encode(), pem)).rstrip(b"=").decode()
    assert await verified(tokens, f"{signed}.{signature}") is None


async def test_another_s_signature_is_not_trusted(tokens: Tokens, signers: Any) -> None:
    """The right key id, another key; and the right signature under other claims or another algorithm."""
    assert await verified(tokens, signers["other"].token()) is None
    header, claims, signature = signers["ed"].token().split(".")
    other = segment(json.loads(base64.urlsafe_b64decode(claims + "==")) | {"tenant": "globex"})
    assert await verified(tokens, f"{header}.{other}.{signature}") is None
    token = jwt.encode({"exp": 9e9}, signers["rsa"].private, "RS512", {"kid": "rsa"})
    assert await verified(tokens, token) is None


@pytest.mark.parametrize(
    "token", ["a.b.c", "..", "eyJ.eyJ.x", "\x00.\x00.\x00", "a" * 9000 + ".b.c", "[].[].x"]
)
async def test_nonsense_is_not_trusted(tokens: Tokens, token: str) -> None:
    """It raises nothing either."""
    assert await verified(tokens, token) is None


async def test_a_verified_token_is_known_until_it_expires(issuer: Any, signers: Any, log: Any) -> None:
    """What was verified is looked up by its hash, and not for longer than it is good."""
    now = [time.time()]
    jwks = Jwks(issuer.url, clock=time.monotonic, log=log)
    await jwks.load()
    rules = TokenRules(ISSUER, AUDIENCE, "tenant", 10.0)
    record = TenantRecord(models=["m"])
    tokens = Tokens(jwks, rules, clock=lambda: now[0], tenant=lambda _: record)
    token = signers["ec"].token(exp=int(now[0]) + 100)
    principal = await verified(tokens, token)
    digest = hashlib.sha256(token.encode()).digest()
    assert principal.models == {"m"}
    assert tokens.known(digest) is principal
    now[0] += 111
    assert tokens.known(digest) is None
    assert await verified(tokens, token) is None
    assert tokens.remembered == 0


async def test_tokens_are_forgotten_when_keys_change(tokens: Tokens, signers: Any) -> None:
    """A withdrawn key's tokens are not good until they expire."""
    token = signers["ec"].token()
    await verified(tokens, token)
    assert tokens.remembered == 1
    tokens.forget()
    assert tokens.known(hashlib.sha256(token.encode()).digest()) is None
