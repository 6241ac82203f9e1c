"""Names that people give nodes: what they mean, and what is said when they mean nothing or too much."""

from __future__ import annotations

import pytest

from fleet.oncall.errors import Ambiguous, NodeUnknown
from fleet.oncall.targets import resolve

A, B = "i-0aaa000000000000a", "i-0aab000000000000b"


@pytest.fixture
def nodes(make_node):
    return [
        make_node(A, address="10.0.16.4"),
        make_node(B, address="10.0.16.40", name="gf-prod-odd"),
        make_node("i-0bbb000000000000c", address="", name=""),
    ]


@pytest.mark.parametrize("name", ["i-9", "10.0.16", "10.0.16.400", "", "i-", "nobody"])
def test_a_name_that_nobody_has_is_refused(nodes, name):
    """Half an address, an empty name and the mere prefix of every id mean nobody: exit code 6."""
    with pytest.raises(NodeUnknown) as raised:
        resolve(nodes, [name])
    assert raised.value.exit_code == 6
    assert "goldenfleet status" in raised.value.hint


@pytest.mark.parametrize("name", ["i-0aa", "0aa"])
def test_a_name_that_several_have_lists_them(nodes, name):
    """Nobody guesses which node is meant: exit code 2, and each that could be."""
    with pytest.raises(Ambiguous) as raised:
        resolve(nodes, [name])
    assert raised.value.exit_code == 2
    assert A in raised.value.message
    assert B in raised.value.message


@pytest.mark.parametrize("name", [A, "i-0aaa", "0aaa", "10.0.16.4"])
def test_a_node_has_many_names(nodes, name):
    """Its id, the beginning of it with or without i-, and its address, though another's begins with it."""
    assert [node.instance_id for node in resolve(nodes, [name])] == [A]


def test_a_name_tag_is_a_name(nodes):
    """Where it is one node's only."""
    assert [node.instance_id for node in resolve(nodes, ["gf-prod-odd"])] == [B]


def test_a_node_named_twice_is_meant_once(nodes):
    """In the order in which nodes were first named."""
    assert [node.instance_id for node in resolve(nodes, ["0aab", A, "10.0.16.40"])] == [B, A]
