from __future__ import annotations

from dataclasses import dataclass

import pytest

from fleet.rehearsal.envoy import Listener, bootstrap, endpoints


@dataclass(frozen=True)
class T:
    address: str
    state: str
    routed: bool
    port: int = 8080


A, B = ("127.0.16.4", 8080), ("127.0.32.4", 8080)


@pytest.mark.parametrize(
    ("state", "routed", "status"),
    [
        ("healthy", True, "HEALTHY"),
        ("draining", True, "HEALTHY"),
        ("draining", False, "DRAINING"),
        ("unhealthy", True, "HEALTHY"),
        ("unhealthy", False, None),
        ("initial", False, None),
        ("unused", False, None),
    ],
)
def test_endpoints(state: str, routed: bool, status: str | None) -> None:
    """A target that the ALB sends to gets requests, one that drains keeps its streams, others are unknown."""
    told = endpoints([T(A[0], state, routed), T(B[0], "healthy", True)])
    assert told == ({B: "HEALTHY"} if status is None else {A: status, B: "HEALTHY"})


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
