import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import EventTooLarge
from server.wire.sse import Event, SseParser, frame

TABLE = [
    (b"data: a\n\n", [(b"a", b"")]),
    (b"data:a\r\n\r\n", [(b"a", b"")]),
    (b"data: a\r\rdata: b\r\r", [(b"a", b""), (b"b", b"")]),
    (b"data: a\n\r\n", [(b"a", b"")]),
    (b"data:  a\n\n", [(b" a", b"")]),
    (b"data\n\n", [(b"", b"")]),
    (b"data: a\ndata: b\n\n", [(b"a\nb", b"")]),
    (b"data: a\r\ndata: b\r\n\r\n", [(b"a\nb", b"")]),
    (b"event: error\ndata: a\n\n", [(b"a", b"error")]),
    (b": ping\n\n", [(None, b"")]),
    (b": ping\ndata: a\n\n", [(b"a", b"")]),
    (b"\xef\xbb\xbfdata: a\n\n", [(b"a", b"")]),
    (b"id: 1\nretry: 5\ndata: a\n\n", [(b"a", b"")]),
    (b"data: a\n\ndata: never ended\n", [(b"a", b"")]),
]


def parsed(events: list[Event]) -> list[tuple[bytes | None, bytes]]:
    return [(event.data, event.name) for event in events]


@pytest.mark.parametrize(("stream", "expected"), TABLE)
def test_every_line_end_and_field_is_read_as_the_standard_says(
    stream: bytes, expected: list[tuple[bytes | None, bytes]]
) -> None:
    """An event's data is the same with any line end, and comments carry none."""
    assert parsed(SseParser().feed(stream)) == expected


@given(
    st.lists(st.sampled_from([row[0] for row in TABLE]), max_size=6),
    st.lists(st.integers(min_value=0, max_value=400), max_size=12),
)
def test_a_stream_split_at_any_bytes_gives_the_same_events(parts: list[bytes], cuts: list[int]) -> None:
    """Where the network cuts a stream changes no event, name or data."""
    stream = b"".join(parts)
    whole = parsed(SseParser().feed(stream))
    parser = SseParser()
    points = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[a:b] for a, b in pairwise(points)]
    assert parsed([event for piece in pieces for event in parser.feed(piece)]) == whole


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=7))
def test_raw_bytes_pass_unchanged(stream: bytes, step: int) -> None:
    """What events keep of their bytes is the stream, but for an LF whose CR came in another piece."""
    parser = SseParser()
    kept = b"".join(
        event.raw for at in range(0, len(stream), step) for event in parser.feed(stream[at : at + step])
    )
    assert re.sub(rb"\r\n?", b"\n", stream).startswith(re.sub(rb"\r\n?", b"\n", kept))


@pytest.mark.parametrize("ended", [b"", b"\n\n"])
def test_an_event_beyond_its_bound_is_refused(ended: bytes) -> None:
    """One event cannot take unbounded memory, whether it ends or not."""
    parser = SseParser(max_event_bytes=64)
    with pytest.raises(EventTooLarge, match="64 bytes"):
        parser.feed(b"data: " + b"x" * 64 + ended)


def test_many_events_in_one_read_may_exceed_the_bound_of_one() -> None:
    """The bound is on one event, not on what arrives together."""
    assert len(SseParser(max_event_bytes=16).feed(b"data: 1234\n\n" * 50)) == 50


@pytest.mark.parametrize(("stream", "pending"), [(b"data: a\n\n", False), (b"data: a\n\ndata", True)])
def test_a_cut_inside_an_event_is_seen(stream: bytes, pending: bool) -> None:
    """Bytes of an event that never ended are told apart from a clean end."""
    parser = SseParser()
    parser.feed(stream)
    assert parser.pending is pending


@given(st.binary(max_size=50))
def test_a_frame_reads_back_as_its_data(data: bytes) -> None:
    """Any data survives framing, with line ends as LF."""
    assert SseParser().feed(frame(data))[0].data == re.sub(rb"\r\n?", b"\n", data)
