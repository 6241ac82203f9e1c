"""Snapshots as people and programs see them."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from fleet.oncall.shown import as_json, describe, span, state_of

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "serving"),
        ({"ready": False}, "loading"),
        ({"phase": "refusing", "target_state": "draining"}, "refusing"),
        ({"phase": "empty", "lifecycle_state": "Terminating:Wait"}, "empty"),
        ({"lifecycle_state": "Pending:Wait", "phase": None}, "booting"),
        ({"lifecycle_state": "Terminating:Wait"}, "leaving"),
        ({"phase": "dead"}, "dead"),
        ({"target_state": "unhealthy"}, "unhealthy"),
        ({"phase": None}, "healthy"),
        ({"phase": None, "target_state": None, "lifecycle_state": "Standby"}, "standby"),
    ],
)
def test_a_state_in_one_word(make_node, fields, state):
    """A drain's phase before all else; without a word of the node, what AWS says of it."""
    assert state_of(make_node(**fields)) == state


def test_json_keeps_its_shape(make_node, make_snapshot):
    """Scripts go by these keys: docs/oncall-commands.md has them."""
    snapshot = make_snapshot((make_node(deadline=NOW + 9.0, moved={"r": "ok"}),))
    told = json.loads(json.dumps(as_json(snapshot, "us-east-1")))
    assert set(told) == {"stack", "region", "at", "took_s", "tiers", "nodes"}
    assert set(told["tiers"][0]) == {
        *("name", "role", "group", "min", "desired", "max", "in_service", "pending", "on_demand_base"),
        *("image_id", "channel_image_id", "stale", "target_groups", "configured_base", "suspended"),
    }
    [node] = told["nodes"]
    assert set(node) == {
        *("instance_id", "tier", "role", "name", "address", "purchase_option", "instance_type"),
        *("availability_zone", "launched_at", "age_s", "lifecycle_state", "target_state", "state", "phase"),
        *("ready", "in_flight", "deadline", "left_s", "reason", "binding", "handed_over", "cut"),
        *("image_id", "stale", "hourly_price"),
    }
    assert (node["left_s"], node["age_s"]) == (9.0, 3600.0)


def test_a_table_off_a_terminal_is_plain_and_whole(make_node, make_snapshot, capsys):
    """No escape sequence, nothing cut short, and what cannot be known is said."""
    console = Console(width=200)
    console.print(describe(make_snapshot((make_node(phase=None, in_flight=None, stale=True),)), "us-east-1"))
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "i-0aaa000000000000a" in told
    assert "ami-1 stale" in told
    assert "1 of 1 running nodes do not answer" in told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0s"), (119, "119s"), (120, "2m"), (7260, "2h01"), (180_000, "2d02h")]
)
def test_spans_are_short(seconds, told):
    """Two figures are enough for a person."""
    assert span(seconds) == told
