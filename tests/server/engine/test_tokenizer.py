"""Text to ids and back."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine.tokenizer import END_OF_TEXT, Tokenizer

# Cores are shared in CI: a slow example says nothing about the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(text=st.text())
def test_every_text_survives_the_round_trip(trained, text):
    """decode(encode(text)) is the text, whatever its script or whitespace."""
    assert trained.tokenizer.decode(trained.tokenizer.encode(text)) == text


@patient
@given(text=st.text(alphabet="aer nt\n\té日🚂€", max_size=200))
def test_round_trip_of_text_like_the_corpus(trained, text):
    """The same where merges apply at every turn."""
    assert trained.tokenizer.decode(trained.tokenizer.encode(text)) == text


def test_ids_are_within_the_vocabulary(trained):
    """The model has a row for every id, and the end of text is never made from text."""
    ids = trained.tokenizer.encode("Zürich <|endoftext|> \x00 東京 notice")
    assert all(0 <= token < trained.shape.vocab == trained.tokenizer.vocab for token in ids)
    assert END_OF_TEXT not in ids


def test_words_of_the_corpus_are_few_tokens(trained):
    """Merges are applied in the order learnt: the corpus's own words are short."""
    assert len(trained.tokenizer.encode(" notice")) == 1
    assert len(trained.tokenizer.encode("A notice is word that a node will go")) <= 12


def test_lone_surrogates_become_question_marks(trained):
    """JSON may carry half a surrogate pair; it is read as text and not an error."""
    assert trained.tokenizer.decode(trained.tokenizer.encode("a\ud800b")) == "a?b"


def test_encoding_a_long_word_is_linear(trained):
    """A word of 200,000 letters is split into bounded pieces, each merged once."""
    assert len(trained.tokenizer.encode("a" * 200_000)) <= 200_000


def test_a_merge_of_unknown_tokens_is_refused():
    """A tokenizer file whose merge names a later token is an error, not a wrong text."""
    with pytest.raises(IndexError):
        Tokenizer([(1, 300)])
