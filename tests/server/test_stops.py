"""Stop strings around a cut, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.stops import StopAcross, characters_behind, sent_tokens


@pytest.mark.parametrize(
    ("body", "behind"),
    [
        ({}, 0),
        ({"stop": None}, 0),
        ({"stop": "x"}, 0),
        ({"stop": "STOP"}, 3),
        ({"stop": ["a", "abc"]}, 2),
        ({"stop": "STOP", "include_stop_str_in_output": True}, 0),
    ],
)
def test_how_far_text_stays_behind(body, behind):
    """The longest stop string less one character, unless the engine was told to keep it."""
    assert characters_behind(body) == behind


@pytest.mark.parametrize(
    ("marks", "sent", "whole", "exact"),
    [
        # Tokens of 4 characters each, text 2 behind.
        ([(0, 0), (1, 2), (2, 6), (3, 10)], 10, 2, False),
        # Of 1 character each.
        ([(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 3)], 3, 3, True),
        # Nothing was sent yet.
        ([(0, 0), (1, 0)], 0, 0, True),
        # A leg that began in the middle.
        ([(5, 20), (6, 20), (7, 21), (8, 23)], 23, 7, True),
    ],
)
def test_tokens_whose_text_was_sent(marks, sent, whole, exact):
    """Of tokens that are ahead of their text, only those count whose text went out whole."""
    found = sent_tokens(marks, sent, 2)
    assert (found.whole, found.exact) == (whole, exact)


@pytest.mark.parametrize(
    ("sent", "pieces", "keeps", "text", "stop"),
    [
        ("a ST", ["OP b"], False, "", "STOP"),
        ("a ST", ["OP b"], True, "OP", "STOP"),
        ("a S", ["T", "O", "P"], True, "TOP", "STOP"),
        ("a SS", ["TOP"], False, "", "STOP"),
        ("a ST", ["AR", "STOP"], False, "ARSTOP", None),
        ("a ", ["STOP"], False, "STOP", None),
        ("", ["STOP"], False, "STOP", None),
    ],
)
def test_a_stop_string_across_the_cut(sent, pieces, keeps, text, stop):
    """It ends the answer; one that lies on one side alone is the engine's to find."""
    across, got = StopAcross(sent, ["STOP"], keeps_stop=keeps), ""
    for piece in pieces:
        found = across.take(piece)
        if found is not None:
            assert (got + found.text, found.stop) == (text if keeps else got + text, stop)
            return
        got += piece
    assert (got, stop) == (text, None)


@given(st.text("ab", max_size=12), st.integers(0, 12), st.text("ab", min_size=1, max_size=4))
def test_across_is_what_one_engine_would_have_found(text, cut, stop):
    """Every stop string that lies over the cut is found, and no other."""
    cut = min(cut, len(text))
    across, ended = StopAcross(text[:cut], [stop], keeps_stop=True), None
    for at, piece in enumerate(text[cut:]):
        if ended is None and across.take(piece) is not None:
            ended = cut + at + 1
    over = [at for at in range(cut) if text.startswith(stop, at) and at + len(stop) > cut]
    assert ended == (over[0] + len(stop) if over else None)
