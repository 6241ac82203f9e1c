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
    """One that is empty needs nothing, one that drains only a nearer deadline."""
    nodes = [make_node(), make_node(phase="empty"), make_node(phase="accepting", deadline=NOW)]
    does = [planned.does for planned in plans.to_drain(nodes, 60)]
    assert does[0] == "drains within 60 s, then it is ended and replaced"
    assert does[1] == ""
    assert "drains already" in does[2]
