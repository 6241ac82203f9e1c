"""A storm of notices on an emulated fleet, with the real control handler."""

from __future__ import annotations

from bench.control_storm import LIMIT_S, Storm, run, told


def test_a_storm_while_aws_throttles() -> None:
    """50 notices on 100 instances are all handled in time; each instance is detached once, each node is told
    once, and a notice costs a few calls at most.
    """
    figures = run(Storm(instances=100, notices=50, throttled=True))
    assert figures["handled_s"] < LIMIT_S
    assert (figures["detached"], figures["detached_twice"]) == (50, 0)
    assert (figures["nodes_told"], figures["most_orders_of_a_node"]) == (50, 1)
    assert (figures["desired"], figures["members"]) == (100, 50)
    assert figures["calls_per_notice"] < 4
    assert "50 notices on 100 instances, throttled" in told(figures)
