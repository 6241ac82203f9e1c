"""What a registration means for what exists."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from fleet.rehearsal.engine.diff import deletion_order, keep_ignored, parse_path, plan
from fleet.rehearsal.engine.state import Record
from fleet.rehearsal.resources import REQUIRED, UNKNOWN, Handler


class Thing(Handler):
    updates: ClassVar[dict[str, Any]] = {"size": 1, "name": REQUIRED}

    def find(self, *_: object) -> None:
        raise AssertionError("a plan looks at nothing")

    def make(self, *_: object) -> str:
        raise AssertionError("a plan makes nothing")

    def delete(self, *_: object) -> None:
        raise AssertionError("a plan deletes nothing")


def record(urn: str = "a", needs: tuple[str, ...] = (), parent: str = "", **values: Any) -> Record:
    return Record(urn, "t", urn, True, parent, dependencies=needs, **values)


OLD = {"size": 1, "name": "x", "kind": "k"}
PLANS = {
    "nothing exists": (None, OLD, "create", ()),
    "it was never finished": (record(pending=True, inputs=OLD), OLD, "create", ()),
    "nothing differs": (record(inputs=OLD), OLD, "same", ()),
    "what can change": (record(inputs=OLD), {**OLD, "size": 2}, "update", ("size",)),
    "what has a default is dropped": (
        record(inputs=OLD),
        {"name": "x", "kind": "k"},
        "update",
        ("size",),
    ),
    "what has none is dropped": (record(inputs=OLD), {"size": 1, "kind": "k"}, "replace", ("name",)),
    "what cannot change": (record(inputs=OLD), {**OLD, "kind": "l"}, "replace", ("kind",)),
    "both": (record(inputs=OLD), {**OLD, "kind": "l", "size": 2}, "replace", ("kind", "size")),
    "what is not known yet": (record(inputs=OLD), {**OLD, "size": UNKNOWN}, "update", ("size",)),
    "what is new and has no place": (record(inputs=OLD), {**OLD, "extra": 1}, "replace", ("extra",)),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_follows_from_what_differs(case) -> None:
    """Create, same, update or replace."""
    old, inputs, op, changed = PLANS[case]
    decided = plan(Thing(), old, inputs)
    assert (decided.op, decided.changed) == (op, changed)


@pytest.mark.parametrize("path", ["size", "*", '["size"]'])
def test_replace_on_changes_names_what_replaces(path) -> None:
    """Plain names, quoted ones and everything."""
    assert plan(Thing(), record(inputs=OLD), {**OLD, "size": 2}, [path]).op == "replace"
    assert plan(Thing(), record(inputs=OLD), {**OLD, "size": 2}, ["name"]).op == "update"


def test_paths_are_pulumis() -> None:
    """Dots, indices, stars and quoted keys."""
    assert parse_path('a.b[0].c["d.e"][*]') == ("a", "b", 0, "c", "d.e", "*")


IGNORED = {
    "an argument": (["a"], {"a": 2, "b": 2}, {"a": 1, "b": 1}, {"a": 1, "b": 2}),
    "one that was not there": (["a"], {"a": 2}, {}, {}),
    "one that is there no more": (["a"], {}, {"a": 1}, {"a": 1}),
    "a field": (["t.a"], {"t": {"a": 2, "b": 2}}, {"t": {"a": 1}}, {"t": {"a": 1, "b": 2}}),
    "an item": (["l[1].a"], {"l": [{"a": 2}, {"a": 2}]}, {"l": [{}, {"a": 1}]}, {"l": [{"a": 2}, {"a": 1}]}),
    "every item": (["l[*].a"], {"l": [{"a": 2}, {"a": 3}]}, {"l": [{"a": 1}, {}]}, {"l": [{"a": 1}, {}]}),
    "everything": (["*"], {"a": 2, "b": 2}, {"a": 1}, {"a": 1}),
    "a field of what is gone": (["t.a"], {}, {"t": {"a": 1}}, {}),
}


@pytest.mark.parametrize("case", IGNORED)
def test_ignored_changes_keep_what_was(case) -> None:
    """ignore_changes works on values at any depth."""
    paths, now, before, expected = IGNORED[case]
    assert keep_ignored(now, before, paths) == expected


def test_dependents_are_deleted_before_what_they_need() -> None:
    """By dependency and parent, whatever the order of the records; the youngest first among equals."""
    records = [record("b", needs=("a",)), record("c", parent="b"), record("a"), record("x"), record("y")]
    order = [item.urn for item in deletion_order(records)]
    assert order.index("c") < order.index("b") < order.index("a")
    assert order.index("y") < order.index("x")
    assert len(order) == 5


def test_what_goes_round_is_deleted_by_age() -> None:
    """A replaced resource and its heir share a URN; that must not stop a deletion."""
    records = [record("a", needs=("b",)), record("b", needs=("a",))]
    assert [item.urn for item in deletion_order(records)] == ["b", "a"]
