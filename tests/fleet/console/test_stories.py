"""Control's log in words, and as one story a drain."""

from __future__ import annotations

import re
from pathlib import Path

import fleet.control
from fleet.console.stories import _WORDS, Entry, event_of, stories
from fleet.oncall.history import NoticeEvent

CONTROL = Path(fleet.control.__file__).parent
KINDS = ("spot-interruption", "drain-request", "undrain-request", "state-change")


def entries(*events: NoticeEvent) -> list[Entry]:
    return [Entry(number, event) for number, event in enumerate(events, 1)]


def log(name: str, at: float, instance_id: str | None = "i-1", **fields: object) -> NoticeEvent:
    return NoticeEvent(at, name, instance_id, "model" if instance_id else None, fields)


def test_what_nobody_knows_is_shown_as_it_is() -> None:
    """An event of another release has words, too; one without a node has no node."""
    told = event_of(Entry(7, log("moon.rose", 1.0, None, reason="it was dark")))
    assert (told["words"], told["kind"], told["instance_id"]) == ("moon rose: it was dark", "other", "")


def test_fields_that_are_missing_leave_no_holes() -> None:
    """No `None`, and no colon without a word."""
    assert event_of(Entry(1, log("notice.seen", 1.0)))["words"] == "notice"
    assert event_of(Entry(1, log("notice.failed", 1.0, error="Throttling")))["kind"] == "failed"


def test_every_event_of_control_has_words() -> None:
    """What the handler and the fallback log is told in words of its own, or is about control itself."""
    logged = set()
    for source in CONTROL.glob("*.py"):
        logged |= set(re.findall(r"""_?log\(\s*"([a-z]+\.[a-z_]+)\"""", source.read_text()))
    assert "instance.retired" in logged
    assert {name for name in logged if name not in _WORDS} == {"control.started", "control.stopped"}


def test_what_is_no_notice_is_not_marked_as_one() -> None:
    """An instance's end, and a person's undrain, come through the same queue."""
    told = [event_of(Entry(1, log("notice.seen", 1.0, kind=kind)))["kind"] for kind in KINDS]
    assert told == ["notice", "notice", "other", "other"]


def test_a_later_notice_brings_the_deadline_forward() -> None:
    """Events out of order make one story, from the first to the last, with the earliest deadline."""
    [story] = stories(
        entries(
            log("drain.requested", 12.0, deadline=130.0),
            log("notice.seen", 10.0, deadline=130.0),
            log("notice.seen", 40.0, deadline=90.0),
        ),
        {"i-1"},
    )
    assert (story["began"], story["deadline"], story["ended"]) == (10.0, 90.0, None)
    assert [mark["at"] for mark in story["marks"]] == [10.0, 12.0, 40.0]


def test_a_deadline_that_is_no_time_is_none() -> None:
    """Whatever another release wrote there, the page goes on."""
    [story] = stories(entries(log("notice.seen", 1.0, deadline="soon")), {"i-1"})
    assert story["deadline"] is None


def test_a_story_ends() -> None:
    """When the hook is completed, or with the node, which is gone by its deadline."""
    gone = stories(entries(log("notice.seen", 10.0, deadline=130.0)), set())
    let_go = stories(entries(log("notice.seen", 10.0), log("hook.completed", 95.0)), {"i-1"})
    assert [story["ended"] for story in (*gone, *let_go)] == [130.0, 95.0]


def test_two_drains_of_one_node_are_two_stories() -> None:
    """A node that was undrained may be drained again; the newest comes first."""
    told = stories(entries(log("notice.seen", 10.0), log("notice.seen", 9000.0)), {"i-1"})
    assert [story["began"] for story in told] == [9000.0, 10.0]


def test_dropped_notices_are_no_story() -> None:
    """Another fleet's events are in the list, and on no row."""
    assert stories(entries(log("notice.dropped", 1.0), log("control.started", 1.0, None)), set()) == []
