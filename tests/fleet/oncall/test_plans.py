"""Plans that people read before they say yes."""

from __future__ import annotations

import pytest

from fleet.oncall import plans

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"phase": "accepting", "binding": True, "reason": "spot-interruption"}, "AWS takes it away"),
        ({"phase": "accepting", "lifecycle_state": "Terminating:Wait"}, "its group is ending it"),
        ({"phase": "accepting", "lifecycle_state": "Detached"}, "let it go"),
        ({"phase": "dead"}, "process is dead"),
    ],
)
def test_an_undrain_that_cannot_be_says_why(make_node, fields, why):
    """Each case in which a node would refuse, before anything is asked of it."""
    [planned] = plans.to_undrain([make_node(**fields)], NOW)
    assert not planned.does
    assert why in planned.because
    assert not planned.wanted


def test_an_undrain_of_a_node_that_serves_is_done_already(make_node):
    """Asking again is no failure."""
    [planned] = plans.to_undrain([make_node()], NOW)
    assert (planned.does, planned.wanted) == ("", True)


def test_an_undrain_of_a_drained_node(make_node):
    """A person's drain is a person's to take back."""
    [planned] = plans.to_undrain([make_node(phase="refusing", lifecycle_state="Standby")], NOW)
    assert planned.does == "serves again"


def test_a_drain_of_the_last_node_of_a_tier_is_warned_of(make_node, make_snapshot):
    """Nobody would be left to go on with its requests."""
    one, two = make_node("i-01"), make_node("i-02")
    assert [*plans.warnings(make_snapshot((one, two)), [one])] == []
    [warning] = plans.warnings(make_snapshot((one, two)), [one, two])
    assert "no other node of tier model serves" in warning
    [warning] = plans.warnings(make_snapshot((one, make_node("i-02", phase="refusing"))), [one])
    assert "no other node" in warning


def test_a_plan_says_what_becomes_of_each_node(make_node):
    """One that is empty needs nothing, one that drains only a nearer deadline, one that is dead no time."""
    nodes = [
        make_node(),
        make_node(phase="empty"),
        make_node(phase="accepting", deadline=NOW, reason="cli"),
        make_node(phase="dead"),
    ]
    whole, empty, draining, dead = plans.to_drain(nodes, 60)
    assert whole.does == "drains within 60 s, then it is ended and replaced"
    assert (empty.does, empty.because, empty.wanted) == ("", "it is empty already", True)
    assert "drains already, reason 'cli'" in draining.does
    assert "its process is dead" in dead.does
    assert not any(planned.wanted for planned in (whole, draining, dead))


def test_a_plan_says_what_nobody_knows(make_node):
    """Work of which nobody knows is not none; as JSON it is null, as is what will not be done."""
    [unknown] = plans.to_drain([make_node(in_flight=None)], 60)
    assert "unknown in flight: drains within 60 s" in str(unknown)
    assert (unknown.as_json()["in_flight"], unknown.as_json()["because"]) == (None, None)
    [idle] = plans.to_undrain([make_node(in_flight=0)], NOW)
    assert "0 in flight: nothing, it does not drain" in str(idle)
    assert (idle.as_json()["does"], idle.as_json()["because"]) == (None, "it does not drain")
