"""Lines of `watch` off a terminal: what changed from one look to the next."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from fleet.oncall.changes import changes
from fleet.oncall.snapshot import Snapshot


def test_nothing_changed_nothing_told(make_snapshot):
    """Ages and times are no change."""
    before = make_snapshot()
    assert [*changes(before, replace(before, at=before.at + 2))] == []


def test_from_nothing_all_is_new(make_snapshot):
    """The first look tells every tier and node."""
    told = [str(change) for change in changes(Snapshot(0, "prod", (), ()), make_snapshot())]
    assert "i-0aaa000000000000a  model  state  new: serving" in told
    assert any(line.startswith("gateway  desired  new: 2") for line in told)


def test_a_node_drains_and_goes(make_node, make_snapshot):
    """Its state with the reason, then its work going down, then its end."""
    draining = {"phase": "accepting", "reason": "disk"}
    looks = [
        make_snapshot((make_node(),)),
        make_snapshot((make_node(**draining),)),
        make_snapshot((make_node(**draining, in_flight=1),)),
        make_snapshot(()),
    ]
    told = [str(change) for before, after in pairwise(looks) for change in changes(before, after)]
    assert [line.removeprefix("i-0aaa000000000000a  model  ") for line in told] == [
        "state  serving -> accepting  (disk)",
        "in_flight  3 -> 1",
        "state  gone, was accepting",
    ]


def test_a_tier_grows(make_tier, make_snapshot):
    """Sizes, the on-demand base and the image are a tier's changes."""
    before = make_snapshot(tiers=(make_tier(),))
    after = make_snapshot(tiers=(make_tier(desired=3, on_demand_base=2, image_id="ami-2"),))
    told = {change.what: (change.before, change.after) for change in changes(before, after)}
    assert told == {"desired": (2, 3), "on_demand_base": (1, 2), "image_id": ("ami-1", "ami-2")}
