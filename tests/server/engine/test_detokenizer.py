"""Nothing is released that a later token could change, and ids ride with their text."""

from __future__ import annotations

import codecs

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine.detokenizer import Detokenizer
from server.engine.tokenizer import END_OF_TEXT

# Cores are shared in CI: a slow example says nothing about the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXTS = st.text(alphabet="abE ND\né日🚂", max_size=30)
STOPS = st.lists(st.text(alphabet="abEND é日", min_size=1, max_size=4), max_size=4)
TOKENS = st.lists(
    st.one_of(st.integers(0, 1023), st.sampled_from([0xC3, 0xA9, 0xE6, 0x97, 0xA5])), max_size=40
)


def told(tokenizer, prompt, tokens, stops=()):
    """Every delta for `tokens`, finished by length unless a stop string came first."""
    detokenizer, deltas = Detokenizer(tokenizer, prompt, stops), []
    for token in tokens:
        delta = detokenizer.push(token)
        if delta is not None:
            deltas.append(delta)
            if delta.finish_reason:
                return deltas
    return [*deltas, detokenizer.finish("length")]


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def ids_of(deltas):
    return [token for delta in deltas for token in delta.token_ids]


def expected(tokenizer, tokens, stops):
    """The text by the plain definition: decode as bytes come, end at the first stop string seen."""
    decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), ""
    for count, token in enumerate(tokens, 1):
        text += decoder.decode(tokenizer.bytes_of(token))
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return text[: min(found)], tokens[:count]
    return text, tokens


@patient
@given(tokens=TOKENS, stops=STOPS)
def test_text_and_ids_are_whole(trained, tokens, stops):
    """The deltas add up to the text before the first stop string and to every id that was written."""
    deltas = told(trained.tokenizer, [], tokens, stops)
    assert (text_of(deltas), ids_of(deltas)) == expected(trained.tokenizer, tokens, stops)


@patient
@given(text=TEXTS, stops=STOPS, bytewise=st.booleans())
def test_every_released_prefix_can_be_continued(trained, text, stops, bytewise):
    """Whoever has the released ids and text continues from them without losing or doubling anything."""
    tokens = list(text.encode()) if bytewise else trained.tokenizer.encode(text)
    deltas = told(trained.tokenizer, [], tokens, stops)
    for cut in range(len(deltas)):
        ids = ids_of(deltas[:cut])
        rest = told(trained.tokenizer, ids, tokens[len(ids) :], stops)
        assert text_of(deltas[:cut]) + text_of(rest) == text_of(deltas)
        assert rest[-1].finish_reason == deltas[-1].finish_reason


@patient
@given(tokens=TOKENS, cut=st.integers(0, 40))
def test_a_cut_anywhere_is_primed_by_the_prompt(trained, tokens, cut):
    """Without stop strings even a cut inside a character joins up, for the prompt's tail has its start."""
    first, rest = tokens[:cut], tokens[cut:]
    joined = text_of(told(trained.tokenizer, [], first)) + text_of(told(trained.tokenizer, first, rest))
    assert joined == text_of(told(trained.tokenizer, [], tokens))


@patient
@given(text=TEXTS)
def test_no_broken_character_is_ever_shown(trained, text):
    """Text that arrives byte by byte is released in whole characters."""
    deltas = told(trained.tokenizer, [], list(text.encode()))
    assert all("\ufffd" not in delta.text for delta in deltas)
    assert text_of(deltas) == text


def test_a_possible_stop_string_is_held_back(trained):
    """The beginning of a stop string waits, with its ids, until the next token decides."""
    detokenizer = Detokenizer(trained.tokenizer, [], ["END"])
    assert detokenizer.push(ord("a")).text == "a"
    assert detokenizer.push(ord("E")) is None
    assert detokenizer.push(ord("N")) is None
    undecided = detokenizer.push(ord("x"))
    assert (undecided.text, undecided.token_ids) == ("ENx", (69, 78, 120))


def test_a_token_is_never_split_between_releases(trained):
    """A token whose last letter begins a stop string is held back as a whole: its id cannot be halved."""
    notice = trained.tokenizer.encode(" notice")
    detokenizer = Detokenizer(trained.tokenizer, [], ["e!"])
    assert detokenizer.push(notice[0]) is None
    released = detokenizer.push(ord("?"))
    assert (released.text, released.token_ids) == (" notice?", (*notice, 63))


def test_the_end_of_text_has_an_id_and_no_text(trained):
    """The end of text is counted and returned, and shows nothing."""
    deltas = told(trained.tokenizer, [], [ord("a"), END_OF_TEXT])
    assert (text_of(deltas), ids_of(deltas)) == ("a", [97, END_OF_TEXT])
