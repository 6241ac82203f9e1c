"""What came of a drain: finished, went on elsewhere, or cut over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.oncall.outcome import Observed, judge

IDS = ("r1", "r2")


def observed(**fields):
    shape = {
        "instance_id": "i-1",
        "tier": "model",
        "role": "model",
        "ended": "empty",
        "seconds": 30.0,
        "at_first": 50,
        "granted_s": 119.0,
    }
    return Observed(**{**shape, **fields})


HANDED_OVER = {"handed_over": 2, "handed_over_ids": IDS}


@pytest.mark.parametrize(
    ("fields", "moved"),
    [
        ({"ended": "not in time"}, {}),
        ({"ended": "dead", "left": 3}, {}),
        ({"ended": "gone", "left": 1}, {}),
        ({"ended": "undrained"}, {}),
        ({"overdue": True}, {}),
        ({"cut": 1}, {}),
        (HANDED_OVER, {}),
        (HANDED_OVER, {"r1": "ok"}),
        (HANDED_OVER, {"r1": "ok", "r2": "nodes_failed"}),
        ({**HANDED_OVER, "granted_s": 5.0}, {"r1": "ok", "r2": "ok"}),
        ({"unseen": True, "ended": "gone"}, {}),
    ],
)
def test_what_went_wrong_is_not_ok(fields, moved):
    """Late, dead, cut, handed over to nobody, or in less time than a spot notice gives."""
    assert not judge(observed(**fields), moved, 1.0).ok


@pytest.mark.parametrize(
    ("fields", "moved"),
    [
        ({}, {}),
        ({"ended": "gone"}, {}),
        (HANDED_OVER, {"r1": "ok", "r2": "running"}),
        (HANDED_OVER, {"r1": "ok", "r2": "client_gone", "other": "nodes_failed"}),
        ({"granted_s": 5.0}, {}),
        ({"granted_s": None}, {}),
    ],
)
def test_what_finished_or_went_on_elsewhere_is_ok(fields, moved):
    """Also in a short time, as long as nothing had to be handed over because of it."""
    assert judge(observed(**fields), moved, 1.0).ok


@pytest.mark.parametrize(
    ("moved", "resumed"), [({}, 0), ({"r1": "ok"}, 1), ({"r1": "ok", "r2": "client_gone"}, 2)]
)
def test_what_went_on_elsewhere_is_counted(moved, resumed):
    """Of all that was handed over, whatever became of the rest."""
    drained = judge(observed(handed_over=3, handed_over_ids=(*IDS, "r3")), {**moved, "r3": "failed"}, 1.0)
    assert drained.resumed == resumed
    assert f"3 handed over, {resumed} of them went on elsewhere" in str(drained)


def test_only_what_came_too_late_is_told_to_be_late():
    """A node that had work after its deadline, and no other."""
    assert "later than its deadline" in str(judge(observed(overdue=True), {}, 1.0))
    assert str(judge(observed(), {}, 1.0)) == "i-1  model  empty after 30.0 s, 50 in flight at first"


def test_a_node_that_nobody_sees_is_judged_by_why_it_was_let_go():
    """The control handler saw whether it was empty."""
    seen = observed(unseen=True, ended="gone")
    assert judge(seen, {}, 1.0, "empty").ok
    assert not judge(seen, {}, 1.0, "deadline").ok
    assert "deadline" in str(judge(seen, {}, 1.0, "deadline"))


def test_a_short_drain_lists_all_that_it_cut_over():
    """Each with what became of it, and those of which no id was kept by number."""
    seen = observed(granted_s=1.0, handed_over=5, handed_over_ids=IDS, cut=1)
    drained = judge(seen, {"r1": "running"}, 1.0)
    assert drained.cut_over == {"r1": "running", "r2": "unknown"}
    assert drained.uncounted == 4
    told = drained.as_json()
    assert told["cut_over"] == [
        {"request_id": "r1", "became": "running"},
        {"request_id": "r2", "became": "unknown"},
    ]
    assert (told["ok"], told["handed_over"], told["resumed"], told["cut_over_unnamed"]) == (False, 5, 1, 4)
    assert "6 cut over" in str(drained)


@pytest.mark.parametrize(("granted_s", "ok"), [(108.0, True), (107.9, False), (None, True)])
def test_nearly_as_long_as_a_notice_is_not_short(granted_s, ok):
    """A tenth of it may be lost on the way of the request to the node."""
    assert judge(observed(**HANDED_OVER, granted_s=granted_s), {"r1": "ok", "r2": "ok"}, 1.0).ok is ok


def test_a_rehearsal_counts_in_its_own_time():
    """At a tenth of AWS's time a spot notice gives 12 s, and 11 s of it are not short."""
    seen = replace(observed(**HANDED_OVER), granted_s=11.0)
    assert judge(seen, {"r1": "ok", "r2": "ok"}, 0.1).ok
    assert not judge(seen, {"r1": "ok", "r2": "ok"}, 1.0).ok
