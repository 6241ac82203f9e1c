"""Snapshots as people and programs see them."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from fleet.oncall.history import NoticeEvent
from fleet.oncall.history import describe as told_of
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


@pytest.mark.parametrize("width", [70, 80, 120, 200])
def test_nothing_is_cut_short_on_a_narrow_terminal(make_node, make_snapshot, capsys, width):
    """Columns give way, ids do not: what a node does and how long it has stays, too."""
    nodes = [
        make_node("i-0123456789abcdef0"),
        make_node("i-0123456789abcdef1", phase="handing_over", deadline=NOW + 59, reason="bad disk " * 9),
    ]
    Console(width=width).print(describe(make_snapshot(tuple(nodes)), "us-east-1"))
    told = capsys.readouterr().out
    assert "\u2026" not in told
    assert max(map(len, told.splitlines())) <= width
    for words in ("i-0123456789abcdef0", "i-0123456789abcdef1", "handing_over", "59s", "SERVING"):
        assert words in told
    assert ("us-east-1a" in told) == (width >= 120)


def test_what_changes_is_seen_in_a_large_fleet(make_node, make_snapshot, capsys):
    """On a terminal of 24 lines: of 200 nodes those that drain, are dead or boot; the others are counted."""
    nodes = [make_node(f"i-{number:017x}") for number in range(200)]
    nodes[150] = make_node("i-0draining", phase="accepting")
    nodes[199] = make_node("i-0dead", phase="dead")
    Console(width=100).print(describe(make_snapshot(tuple(nodes)), "us-east-1", 14))
    told = capsys.readouterr().out
    assert len(told.splitlines()) < 24
    assert told.index("i-0draining") < told.index("i-0dead")
    assert "and 187 more: 187 serving" in told


def test_other_people_s_words_move_no_cursor(make_node, make_snapshot, capsys):
    """A reason that would clear the screen, or forge a line, is shown as it was written."""
    evil = "\x1b[2J\x1b]0;x\x07\ni-0bbb  model  serving\ud800"
    Console(width=200).print(describe(make_snapshot((make_node(phase="accepting", reason=evil),)), "eu"))
    event = NoticeEvent(NOW, "notice.seen", "i-1", "model", {"reason": evil})
    for told in (capsys.readouterr().out, told_of(event)):
        assert "\x1b" not in told
        assert "\ni-0bbb" not in told
        assert "\\x1b[2J" in told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0s"), (119, "119s"), (120, "2m"), (7260, "2h01"), (180_000, "2d02h")]
)
def test_spans_are_short(seconds, told):
    """Two figures are enough for a person."""
    assert span(seconds) == told
