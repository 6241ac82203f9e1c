"""The gate before the serving port: one answer to whoever may not pass, whatever the cause."""

import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from server.auth.failures import Failures
from server.auth.gatekeeper import Gate
from server.auth.jwks import Jwks
from server.auth.keyfile import UNLIMITED
from server.auth.keyring import Keyring
from server.auth.tokens import TokenRules, Tokens
from server.errors import Forbidden, TooManyFailures, Unauthenticated
from server.http.headers import Headers

KEY = "gf_one-key-of-many-characters-that-nobody-guesses"


class Asked:
    """The part of a request that a gate looks at."""

    def __init__(self, *authorization: str | bytes, peer: str = "127.0.0.9", **headers: str) -> None:
        raw = [value if isinstance(value, bytes) else value.encode() for value in authorization]
        pairs = [(b"authorization", value) for value in raw]
        pairs += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.headers = Headers(pairs)
        self.peer = peer


@pytest.fixture
def make_gate(clock: Any, log: Any, write_keys: Any) -> Callable[..., Any]:
    async def make(*records: dict[str, Any], tokens: Tokens | None = None, **fields: Any) -> Gate:
        from server.auth.secrets import secret_reader

        reference = write_keys(*(records or ({"key": KEY, "id": "one"},)))
        keyring = Keyring(secret_reader(reference, None), poll_s=1, clock=time.time, log=log)
        await keyring.load()
        reasons: list[str] = fields.pop("reasons", [])
        allowed = fields.pop("allowed", 3)
        return Gate(keyring, tokens, Failures(clock, allowed), refused=reasons.append, **fields)

    return make


async def test_a_key_opens_the_gate(make_gate: Any) -> None:
    """The scheme's name is written as one likes."""
    gate = await make_gate()
    for scheme in ("Bearer", "bearer", "BEARER"):
        principal = await gate.principal(Asked(f"{scheme} {KEY}"), "generate")
        assert (principal.key_id, principal.tenant) == ("one", "acme")


@pytest.mark.parametrize(
    "authorization",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (f"Basic {KEY}",),
        (KEY,),
        (f"Bearer {KEY}", f"Bearer {KEY}"),
        (f"Bearer {KEY}x",),
        (f"Bearer {KEY[:-1]}",),
        (f"Bearer '{KEY}'",),
        (f'Bearer "{KEY}"',),
        ("Bearer ' OR 1=1 --",),
        (f"Bearer {KEY}\x00",),
        ("Bearer \x00",),
        ("Bearer " + "k" * 65536,),
        (f"Bearer {KEY} ".encode() + b"\xff\xfe",),
        ("Bearer ключ",),
        ("Bearer a.b.c",),
    ],
)
async def test_every_bad_credential_gets_the_same_answer(make_gate: Any, authorization: Any) -> None:
    """Quotes, NUL, 64 KiB, bytes that are no text, two headers, none: one error with one text."""
    gate = await make_gate()
    with pytest.raises(Unauthenticated) as caught:
        await gate.principal(Asked(*authorization), "generate")
    assert str(caught.value) == str(Unauthenticated())


async def test_a_short_key_is_no_key(make_gate: Any) -> None:
    """Whatever hash is listed, fewer characters than 128 random bits take are not looked up."""
    gate = await make_gate({"key": "short", "id": "short"})
    with pytest.raises(Unauthenticated):
        await gate.principal(Asked("Bearer short"), "generate")


async def test_a_key_is_for_its_scopes(make_gate: Any) -> None:
    """A known key on a route that it is not for: forbidden, not unknown."""
    gate = await make_gate({"key": KEY, "scopes": ["models"]})
    assert await gate.principal(Asked(f"Bearer {KEY}"), "models")
    with pytest.raises(Forbidden):
        await gate.principal(Asked(f"Bearer {KEY}"), "generate")


async def test_a_peer_that_guesses_is_refused_unread(make_gate: Any, clock: Any) -> None:
    """For a minute; a good key from the same address, which may be many people's, goes on passing."""
    reasons: list[str] = []
    gate = await make_gate(allowed=3, reasons=reasons)
    for number in range(3):
        with pytest.raises(Unauthenticated):
            await gate.principal(Asked(f"Bearer {KEY}{number}"), "generate")
    with pytest.raises(TooManyFailures):
        await gate.principal(Asked(f"Bearer {KEY}9"), "generate")
    assert await gate.principal(Asked(f"Bearer {KEY}"), "generate")
    with pytest.raises(Unauthenticated):
        await gate.principal(Asked(f"Bearer {KEY}9", peer="127.0.0.10"), "generate")
    clock.now += 60
    with pytest.raises(Unauthenticated):
        await gate.principal(Asked(f"Bearer {KEY}9"), "generate")
    assert reasons == ["unknown"] * 3 + ["blocked"] + ["unknown"] * 2


async def test_a_balancer_s_word_counts_only_where_it_is_trusted(make_gate: Any) -> None:
    """Behind it a guesser blocks itself; elsewhere nobody escapes by naming another address."""
    bad = f"Bearer {KEY}x"
    trusted = await make_gate(allowed=1, proxies=(ip_network("127.0.0.0/24"),))
    with pytest.raises(Unauthenticated):
        await trusted.principal(Asked(bad, x_forwarded_for="5.5.5.5, 1.1.1.1"), "generate")
    with pytest.raises(TooManyFailures):
        await trusted.principal(Asked(bad, x_forwarded_for="6.6.6.6, 1.1.1.1"), "generate")
    with pytest.raises(Unauthenticated):
        await trusted.principal(Asked(bad, x_forwarded_for="1.1.1.1, 2.2.2.2"), "generate")
    direct = await make_gate(allowed=1)
    with pytest.raises(Unauthenticated):
        await direct.principal(Asked(bad, x_forwarded_for="1.1.1.1"), "generate")
    with pytest.raises(TooManyFailures):
        await direct.principal(Asked(bad, x_forwarded_for="2.2.2.2"), "generate")


async def test_a_blocked_peer_s_tokens_are_not_verified(
    make_gate: Any, issuer: Any, signers: Any, log: Any
) -> None:
    """Signatures cost; a token that was verified before goes on passing."""
    jwks = Jwks(issuer.url, clock=time.monotonic, log=log)
    await jwks.load()
    rules = TokenRules("https://issuer.example", "goldenfleet", "tenant", 0.0)
    tokens = Tokens(jwks, rules, clock=time.time, tenant=lambda _: UNLIMITED)
    gate = await make_gate(allowed=1, tokens=tokens)
    known, fresh = signers["ec"].token(), signers["ed"].token()
    assert await gate.principal(Asked(f"Bearer {known}"), "generate")
    with pytest.raises(Unauthenticated):
        await gate.principal(Asked("Bearer a.b.c"), "generate")
    with pytest.raises(TooManyFailures):
        await gate.principal(Asked(f"Bearer {fresh}"), "generate")
    assert await gate.principal(Asked(f"Bearer {known}"), "generate")


def test_failures_are_forgotten(clock: Any) -> None:
    """Ten thousand peers are remembered at most, so that a flood of addresses costs no memory."""
    failures = Failures(clock, 1)
    for number in range(10_050):
        failures.add(str(number))
    assert failures.remembered == 10_000
    assert not failures.blocked("0")
    assert failures.blocked("10049")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("not an address", "nor this", False),
    ],
)
def test_failures_count_by_who_holds_the_address(clock: Any, first: str, second: str, same: bool) -> None:
    """An IPv6 subnet is one peer: with 2^64 addresses nobody would ever be wrong twice."""
    failures = Failures(clock, 1)
    failures.add(first)
    assert failures.blocked(second) is same
