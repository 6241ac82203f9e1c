"""Streams with stop strings, which an engine may have held back or sent in part when it was lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from goldenfleet_client import StreamTruncated
from goldenfleet_client._stops import Stops


def _event(text: str, ids: list[int], reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "token_ids": ids, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def test_a_stream_with_stop_strings_goes_on_from_its_text(caller: Any, service: Any, acts: Any) -> None:
    """An engine's text may lag behind its ids for a stop string: only what was read is taken for said."""
    ahead = _event("", [103]) + _event("ge", [104, 105])
    service.then(acts.speak(events=3, raw=ahead, cut=acts.reset), acts.answer(400, {}))
    outcome = caller.read(stop=["END"])
    assert outcome.text == "Der Mond ist ge"
    assert service.seen[1].body["prompt"] == "Sing!Der Mond ist ge"
    assert service.seen[1].body["stop"] == ["END"]


def test_a_stop_string_across_a_cut_ends_the_stream(caller: Any, service: Any, acts: Any) -> None:
    """Half of a stop string before a cut and half after it: the answer ends there, for no engine can know."""
    service.then(acts.speak(events=8, cut=acts.reset), acts.speak())
    outcome = caller.read(stop=["goldnen"])
    assert outcome.text == outcome.result.text == "Der Mond ist aufgegangen, die gold"
    assert outcome.result.finish_reason == "stop"


def test_the_held_back_end_is_not_guessed(caller: Any, service: Any, acts: Any) -> None:
    """With all tokens received and no finish reason, text may be missing: the stream counts as truncated."""
    service.then(acts.speak(events=4, cut=acts.reset))
    outcome = caller.read(max_tokens=4, stop=["END"])
    assert isinstance(outcome.error, StreamTruncated)
    assert outcome.error.text == "Der Mond ist auf"


@pytest.mark.parametrize(
    ("before", "pieces", "belongs"),
    [
        ("say E", ["ND more"], ""),
        ("say E", ["N", "D more"], ""),
        ("say ", ["END"], None),
        ("say E", ["nd"], None),
        ("EEN", ["D"], ""),
        ("", ["END"], None),
    ],
)
def test_across(before: str, pieces: list[str], belongs: str | None) -> None:
    """Found only where it begins before the cut and ends after it, however the rest arrives."""
    stops = Stops({"stop": ["END"]})
    stops.cut_after(before)
    found = [stops.across(piece) for piece in pieces]
    assert found[-1] == belongs
    assert found[:-1] == [None] * (len(pieces) - 1)
