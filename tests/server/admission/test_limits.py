"""Requests and tokens a minute, and requests at a time: what is taken, owed and told."""

from typing import Any

import pytest

from server.admission.bucket import Bucket
from server.admission.control import priority_of
from server.admission.limits import (
    Counts,
    Left,
    LocalMeter,
    Rate,
    duration,
    limit_headers,
    terms_of,
)
from server.auth.principal import Allowance, Principal, Priority
from server.errors import BadRequest
from server.http.headers import Headers

REQUESTS, TOKENS = Rate("a:requests", "requests", 60), Rate("a:tokens", "tokens", 600)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> LocalMeter:
    return LocalMeter(clock)


async def test_a_limit_is_reached_and_comes_back(meter: LocalMeter, clock: Clock) -> None:
    """60 a minute: 60 at once, then one a second."""
    for _ in range(60):
        assert (await meter.take([REQUESTS], 0)).wait_s == 0
    refused = await meter.take([REQUESTS], 0)
    assert (refused.wait_s, refused.reached) == (pytest.approx(1.0), "requests")
    clock.now += 1.0
    assert (await meter.take([REQUESTS], 0)).wait_s == 0
    assert (await meter.take([REQUESTS], 0)).wait_s > 0


async def test_a_refusal_takes_nothing_of_any_limit(meter: LocalMeter) -> None:
    """Who is refused for tokens has lost no request."""
    await meter.take([REQUESTS, TOKENS], 600)
    before = (await meter.take([REQUESTS], 0)).left[0].level
    refused = await meter.take([REQUESTS, TOKENS], 100)
    assert (refused.wait_s, refused.reached) == (pytest.approx(10.0), "tokens")
    assert (await meter.take([REQUESTS], 0)).left[0].level == before - 1


async def test_an_answer_s_tokens_are_paid_afterwards(meter: LocalMeter, clock: Clock) -> None:
    """What was generated is known only then: whoever is in debt waits until it is paid."""
    await meter.take([TOKENS], 10)
    meter.charge([REQUESTS, TOKENS], 1190)
    refused = await meter.take([TOKENS], 1)
    assert refused.wait_s == pytest.approx(60.1)
    assert refused.left[0].level == -600
    clock.now += 60.2
    assert (await meter.take([TOKENS], 1)).wait_s == 0


async def test_what_was_estimated_too_high_is_given_back(meter: LocalMeter) -> None:
    """A charge can be negative."""
    await meter.take([TOKENS], 600)
    meter.charge([TOKENS], -500)
    assert (await meter.take([TOKENS], 500)).wait_s == 0


async def test_a_prompt_larger_than_the_limit_waits_for_all_of_it(meter: LocalMeter, clock: Clock) -> None:
    """It is not refused for ever."""
    assert (await meter.take([TOKENS], 5000)).wait_s == 0
    refused = await meter.take([TOKENS], 5000)
    assert refused.wait_s == pytest.approx(500.0)
    clock.now += 501
    assert (await meter.take([TOKENS], 5000)).wait_s == 0


def test_a_clock_that_goes_back_fills_nothing() -> None:
    """Nor does it empty."""
    bucket = Bucket.full(60, 100.0)
    bucket.level -= 30
    assert bucket.fill(50.0) == 30
    assert bucket.fill(101.0) == 31


def test_requests_at_a_time_are_counted_per_owner() -> None:
    """All owners have room, or nothing is taken."""
    counts = Counts()
    assert counts.enter([("key", 2), ("tenant", 3)])
    assert counts.enter([("key", 2), ("tenant", 3)])
    assert not counts.enter([("key", 2), ("tenant", 3)])
    assert counts.enter([("other", 2), ("tenant", 3)])
    assert not counts.enter([("third", 2), ("tenant", 3)])
    counts.leave([("key", 2), ("tenant", 3)])
    assert counts.enter([("third", 2), ("tenant", 3)])


def test_a_key_s_own_limit_goes_before_the_default() -> None:
    """And a tenant's are its own."""
    principal = Principal(
        "acme", "k", limits=Allowance(requests_per_minute=5), tenant_limits=Allowance(tokens_per_minute=7)
    )
    terms = terms_of(principal, Allowance(requests_per_minute=100, concurrency=2))
    assert terms is not None
    assert [(rate.name, rate.capacity) for rate in terms.rates] == [
        ("{acme}:key:k:requests", 5),
        ("{acme}:tokens", 7),
    ]
    assert terms.busy == (("{acme}:key:k", 2),)
    assert terms_of(Principal("acme", "k"), Allowance()) is None


def test_no_tenant_s_bucket_is_another_s() -> None:
    """Names that look alike do not meet."""
    limits = Allowance(requests_per_minute=1)
    pairs = [("a", "b"), ("a.b", "c"), ("a", "b.c"), ("a", "jwt/a/key:b"), ("b", "jwt/a/key:b")]
    found = [terms_of(Principal(tenant, key, limits=limits), Allowance()) for tenant, key in pairs]
    names = [rate.name for terms in found if terms is not None for rate in terms.rates]
    assert len(names) == len(pairs)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (-1, "0ms"), (0.0174, "17ms"), (1, "1.0s"), (59.99, "59.9s"), (60, "1m0s"), (361.2, "6m1s")],
)
def test_times_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    """Its clients parse these."""
    assert duration(seconds).decode() == text


def test_of_two_limits_of_a_kind_the_tighter_is_told() -> None:
    """A client need know only what stops it first; less than nothing is shown as nothing."""
    tenant = Rate("t:requests", "requests", 1000)
    headers = dict(
        limit_headers([Left(REQUESTS, 30.5, 29.5), Left(tenant, 3.0, 60.0), Left(TOKENS, -5.0, 1)])
    )
    assert headers == {
        b"x-ratelimit-limit-requests": b"1000",
        b"x-ratelimit-remaining-requests": b"3",
        b"x-ratelimit-reset-requests": b"1m0s",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"1.0s",
    }


@pytest.mark.parametrize(
    ("asked", "highest", "given"),
    [
        (None, Priority.HIGH, Priority.HIGH),
        ("low", Priority.HIGH, Priority.LOW),
        ("High", Priority.LOW, Priority.LOW),
        (" normal ", Priority.NORMAL, Priority.NORMAL),
    ],
)
def test_a_request_may_lower_its_class_and_not_raise_it(asked: Any, highest: Any, given: Any) -> None:
    """The key's class is the highest."""
    pairs = [] if asked is None else [(b"x-goldenfleet-priority", asked.encode())]
    assert priority_of(Headers(pairs), highest) is given


def test_a_class_that_does_not_exist_is_refused() -> None:
    """A typing error would otherwise go unnoticed."""
    with pytest.raises(BadRequest):
        priority_of(Headers([(b"x-goldenfleet-priority", b"urgent")]), Priority.HIGH)
