"""Arrivals from a file."""

from __future__ import annotations

import pytest

from fleet.load.arrivals import Arrival, Lengths
from fleet.load.errors import TraceError
from fleet.load.trace import read_trace

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
LINES = (
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.6805900,39600,109\n"
    "2023-11-16 18:16:46.6805900,879,55\n"
)
MOST = Lengths(1000, 100)


def read(tmp_path, text: str, **options):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return read_trace(path, **{"speed": 1.0, "duration_s": 60.0, "most": MOST} | options)


def test_times_count_from_the_first_request_and_lengths_are_cut(tmp_path) -> None:
    """The first leaves at once; what lies beyond the duration is left out; prompts are cut to the most."""
    assert read(tmp_path, HEAD + LINES) == (
        Arrival(0.0, Lengths(374, 44)),
        Arrival(pytest.approx(4.0), Lengths(1000, 100)),
    )


def test_a_trace_is_played_faster(tmp_path) -> None:
    """Speed divides times, so that more of the trace fits."""
    assert [each.at_s for each in read(tmp_path, HEAD + LINES, speed=2.0)] == pytest.approx([0.0, 2.0, 30.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no request"),
        (HEAD, "holds no request"),
        ("a,b\n1,2\n", "line 2"),
        (HEAD + "2023-11-16 18:15:46,374\n", "line 2.*too few columns"),
        (HEAD + "yesterday,374,44\n", "line 2"),
        (HEAD + "2023-11-16 18:15:46,many,44\n", "line 2"),
        (HEAD + LINES + "2023-11-16 18:15:47,1,1\n", "line 5.*earlier"),
    ],
)
def test_junk_is_refused_with_its_line(tmp_path, text, said) -> None:
    """What is no trace says where it stops being one."""
    with pytest.raises(TraceError, match=said):
        read(tmp_path, text, duration_s=3600.0)


def test_bytes_that_are_no_text_are_refused(tmp_path) -> None:
    """A picture is no trace."""
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(TraceError, match="cannot read"):
        read_trace(path, speed=1.0, duration_s=60.0, most=MOST)
