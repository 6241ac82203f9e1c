from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import EventTooLarge
from server.wire.sse import DONE_FRAME, SseParser
from server.wire.whole_events import WholeEvents, is_last

PARTS = [
    b"data: {}\n\n",
    b'data: {"a": "b"}\n\n',
    b": ping\n\n",
    b"data: a\r\n\r\n",
    b"data: a\r\r",
    b"\n",
    b"\n\n",
    b"\r",
    b"data: not ended",
    b'data: {"error": 1}\n\n',
    b'data: {"x": "[DONE]"}\n\n',
    DONE_FRAME,
    b"data: [DO\ndata: NE]\n\n",
]


@given(st.lists(st.sampled_from(PARTS), max_size=8), st.lists(st.integers(0, 200), max_size=8), st.booleans())
def test_events_pass_as_they_are_looked_at_or_not(parts: list[bytes], cuts: list[int], split: bool) -> None:
    """The bytes of every whole event pass, in order, and the last event is seen as parsing sees it."""
    stream = b"".join(parts)
    points = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[a:b] for a, b in pairwise(points)] if split else parts
    parser = SseParser()
    expected = [event for piece in pieces for event in parser.feed(piece)]
    events, out = WholeEvents(), b""
    for piece in pieces:
        skimmed = events.skim(piece)
        out += b"".join(event.raw for event in events.read(piece)) if skimmed is None else skimmed
    assert out == b"".join(event.raw for event in expected)
    assert events.ended is any(is_last(event) for event in expected)


def test_an_event_without_an_end_is_bounded() -> None:
    """However an event that is too large arrives, it is refused."""
    events = WholeEvents()
    for _ in range(26):
        assert events.skim(b"x" * 40_000) is None
        assert events.read(b"x" * 40_000) == []
    with pytest.raises(EventTooLarge):
        events.read(b"x" * 40_000)
