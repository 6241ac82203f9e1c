from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fleet.rehearsal.envoy import Lag, Listener, bootstrap, endpoints


@dataclass(frozen=True)
class T:
    address: str
    state: str
    port: int = 8080


A, B = ("127.0.16.4", 8080), ("127.0.32.4", 8080)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("healthy", "healthy", {A: "HEALTHY", B: "HEALTHY"}),
        ("healthy", "initial", {A: "HEALTHY"}),
        ("healthy", "unhealthy", {A: "HEALTHY"}),
        ("healthy", "unused", {A: "HEALTHY"}),
        ("unhealthy", "unhealthy", {A: "HEALTHY", B: "HEALTHY"}),
        ("unhealthy", "initial", {A: "HEALTHY"}),
        ("initial", "initial", {}),
        ("initial", "unused", {}),
    ],
)
def test_endpoints(a: str, b: str, told: dict[Any, str]) -> None:
    """Healthy targets get requests; when there is none, all unhealthy ones do, and new ones never."""
    assert endpoints([T(A[0], a), T(B[0], b)], Lag(2.0), 0.0) == told


def test_lag() -> None:
    """A deregistered target gets new requests until the lag is over, then only keeps its streams."""
    lag, targets = Lag(2.0), [T(A[0], "draining"), T(B[0], "healthy")]
    assert endpoints(targets, lag, 100.0) == {A: "HEALTHY", B: "HEALTHY"}
    assert endpoints(targets, lag, 101.9) == {A: "HEALTHY", B: "HEALTHY"}
    assert endpoints(targets, lag, 102.0) == {A: "DRAINING", B: "HEALTHY"}


def test_lag_forgets() -> None:
    """A target that was registered again has the whole lag before it the next time."""
    lag = Lag(2.0)
    endpoints([T(A[0], "draining")], lag, 100.0)
    endpoints([T(A[0], "healthy")], lag, 105.0)
    assert endpoints([T(A[0], "draining")], lag, 106.0) == {A: "HEALTHY"}


def test_draining_does_not_count_as_sick() -> None:
    """When the lag is over and no healthy target is left, unhealthy ones get requests, draining ones none."""
    lag = Lag(0.0)
    assert endpoints([T(A[0], "draining"), T(B[0], "unhealthy")], lag, 1.0) == {A: "DRAINING", B: "HEALTHY"}


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        ("round_robin", "ROUND_ROBIN"),
        ("least_outstanding_requests", "LEAST_REQUEST"),
        ("weighted_random", "ROUND_ROBIN"),
    ],
)
def test_algorithm(algorithm: str, policy: str) -> None:
    """The target group's algorithm becomes Envoy's."""
    config = bootstrap([Listener(80, "arn", algorithm, 60)], [8088], "/tmp")
    assert config["static_resources"]["clusters"][0]["lb_policy"] == policy


def test_never_retries() -> None:
    """Like an ALB the balancer has no retry policy and ejects nothing."""
    text = repr(bootstrap([Listener(80, "arn", "round_robin", 60)], [8088], "/tmp"))
    assert "retry" not in text
    assert "outlier" not in text
