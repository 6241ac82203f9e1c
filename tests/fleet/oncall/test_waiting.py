"""What is told to whoever waits for a drain."""

from __future__ import annotations

import pytest

from fleet.oncall.following import Followed
from fleet.oncall.nodes import Said
from fleet.oncall.outcome import Observed, judge
from fleet.oncall.waiting import _line, _tell

DOCTOR, LOGS, SHORT, RESUMED = "goldenfleet doctor", "goldenfleet logs", "shorter than", "goldenfleet_client"


@pytest.mark.parametrize(
    ("said", "fields", "line"),
    [
        (Said("answers", {"phase": "refusing", "in_flight": 3}), {}, "refusing, 3 in flight"),
        (Said("answers", {"phase": "serving", "in_flight": 3}), {}, "still serving, 3 in flight"),
        (Said("answers", {"phase": "serving"}), {"drained": True}, "serving, 0 in flight"),
        (Said("answers", {"phase": "empty"}), {"ended": "empty"}, "empty, 0 in flight"),
        (Said("answers", {"phase": "refusing"}), {"ended": "not in time"}, "not in time"),
        (Said("silent", {}), {}, "does not answer"),
        (Said("dead", {}), {"ended": "dead"}, "dead"),
    ],
)
def test_a_node_that_drains_has_a_line(make_node, said, fields, line):
    """Its phase and its work, or why there is nothing to say of them."""
    assert _line(Followed(make_node(), 0.0, None, None, said, **fields)) == line


@pytest.mark.parametrize(
    ("fields", "hints"),
    [
        ({}, []),
        ({"ended": "not in time"}, [DOCTOR]),
        ({"ended": "dead"}, [LOGS]),
        ({"handed_over": 1, "handed_over_ids": ("r1",), "granted_s": 1.0}, [SHORT]),
        ({"granted_s": 1.0}, []),
        ({"handed_over": 1, "role": "gateway"}, [RESUMED]),
        ({"handed_over": 1}, []),
        ({"role": "gateway"}, []),
    ],
)
def test_each_bad_end_has_its_hint(capsys, fields, hints):
    """What to do next, or why it counts; nothing where there is nothing to do."""
    shape = {"instance_id": "i-1", "tier": "model", "role": "model", "ended": "empty", "at_first": 0}
    _tell([judge(Observed(**{**shape, "seconds": 1.0, **fields}), {}, 1.0)], as_json=False)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(hints)
    assert all(hint in line for hint, line in zip(hints, said, strict=True))


@pytest.mark.parametrize(("count", "lines"), [(19, 20), (20, 21), (21, 22)])
def test_twenty_requests_are_named(capsys, count, lines):
    """And of more than that how many there are."""
    names = tuple(f"r{number}" for number in range(count))
    seen = Observed("i-1", "model", "model", "empty", 1.0, 0, handed_over=count, handed_over_ids=names)
    _tell([judge(seen, {}, 1.0)], as_json=False)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    assert ("and 1 more" in said[-1]) is (count > 20)
