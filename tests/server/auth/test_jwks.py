"""The issuer's keys: rotation, floods, outages, and keys that must not be used."""

import asyncio
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from server.auth.jwks import Jwks, read_jwks
from server.errors import KeysUnusable


async def test_a_key_that_the_issuer_added_is_fetched(
    issuer: Any, signers: Any, clock: Any, log: Any
) -> None:
    """Rotation needs no restart: the first token with a new key id brings the key."""
    issuer.document = {"keys": [signers["rsa"].jwk()]}
    jwks = Jwks(issuer.url, clock=clock, log=log)
    changes: list[int] = []
    jwks.changed = lambda: changes.append(1)
    await jwks.load()
    issuer.document = {"keys": [signers["ec"].jwk()]}
    clock.now += 30
    assert await jwks.key("ec") is not None
    assert await jwks.key("rsa") is None
    assert len(changes) == 2


async def test_a_flood_of_unknown_keys_fetches_once_in_30_seconds(issuer: Any, clock: Any, log: Any) -> None:
    """However many ask, at the same time or after one another; and all of them wait for one fetch."""
    jwks = Jwks(issuer.url, clock=clock, log=log)
    await jwks.load()
    for number in range(50):
        assert await jwks.key(f"unknown-{number}") is None
    assert issuer.asked == 1
    clock.now += 30
    await asyncio.gather(*(jwks.key(f"unknown-{number}") for number in range(50)))
    assert issuer.asked == 2
    clock.now += 29.9
    await asyncio.gather(*(jwks.key(f"unknown-{number}") for number in range(50)))
    assert issuer.asked == 2


@pytest.mark.parametrize("outage", ["status", "document", "empty", "redirect"])
async def test_an_outage_keeps_the_old_keys(issuer: Any, clock: Any, log: Any, outage: str) -> None:
    """An answer that holds no key is an outage too, and a redirect is not followed."""
    jwks = Jwks(issuer.url, clock=clock, log=log)
    await jwks.load()
    issuer.status = {"status": 500, "redirect": 302}.get(outage, 200)
    issuer.document = {"document": "nonsense", "empty": {"keys": []}}.get(outage, issuer.document)
    clock.now += 30
    assert await jwks.key("unknown") is None
    assert await jwks.key("rsa") is not None
    assert log.names() == ["jwks.loaded", "jwks.unusable"]


async def test_an_issuer_that_is_down_is_told_of(clock: Any, log: Any) -> None:
    """The first load raises; a refresh only says so."""
    jwks = Jwks("http://127.0.0.1:1/jwks", clock=clock, log=log)
    with pytest.raises(KeysUnusable, match="cannot be read"):
        await jwks.load()
    clock.now += 30
    await jwks.refresh()
    assert log.names() == ["jwks.unusable"]


async def test_a_client_that_leaves_does_not_take_the_fetch_along(
    issuer: Any, clock: Any, log: Any, until: Any
) -> None:
    """Others wait for the same fetch."""
    jwks = Jwks(issuer.url, clock=clock, log=log)
    first = asyncio.create_task(jwks.key("rsa"))
    second = asyncio.create_task(jwks.key("rsa"))
    await until(lambda: jwks.fetches == 1)
    first.cancel()
    assert await second is not None
    assert issuer.asked == 1


def test_weak_and_secret_keys_are_not_used(signers: Any) -> None:
    """RSA under 2048 bits, symmetric keys, keys for encryption, keys without an id, private keys."""
    rsa = signers["rsa"].jwk()
    leaked = rsa | {"d": "AAAA", "p": "AAAA", "q": "AAAA"}
    bad = [
        signers["small"].jwk(),
        {"kty": "oct", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"},
        rsa | {"use": "enc"},
        {name: value for name, value in rsa.items() if name != "kid"},
        rsa | {"alg": "HS256"},
        rsa | {"alg": "RS512"},
        rsa | {"kty": "RSA", "n": "!"},
        leaked,
        signers["ec"].jwk(crv="secp256k1"),
        "nonsense",
        None,
    ]
    for item in bad:
        with pytest.raises(KeysUnusable, match="no key that may sign"):
            read_jwks({"keys": [item]})
    assert set(read_jwks({"keys": [*bad, rsa]})) == {"rsa"}


def test_a_private_key_in_the_set_is_everybody_s(signers: Any) -> None:
    """A whole private key parses; it is not trusted."""
    pem = signers["ed"].private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    item = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(jwt.algorithms.OKPAlgorithm().prepare_key(pem)))
    with pytest.raises(KeysUnusable):
        read_jwks({"keys": [item | {"kid": "ed", "alg": "EdDSA"}]})
