"""A cut answer, continued from its token ids, is the undisturbed answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.engine.sampling import Sampling

SAMPLED = Sampling(temperature=1.1, top_p=0.9, seed=7)


@pytest.fixture(
    params=[
        ("Where is the fleet?", Sampling()),
        ("日本語で言うと?", Sampling()),
        ("Who is on call tonight?", SAMPLED),
        ("Tell me a story.", replace(SAMPLED, top_k=40, seed=2**63)),
    ],
    ids=["accents", "japanese", "sampled", "sampled top_k"],
)
def undisturbed(request, bench, ask):
    question, sampling = request.param
    one = ask(bench.question(question), max_tokens=64, sampling=sampling, ignore_end=True)
    return one, bench.alone(one)


def continued(ask, one, ids):
    return replace(one, prompt=one.prompt + ids, max_tokens=one.max_tokens - len(ids))


def test_continuation_is_exact_at_every_token(bench, ask, undisturbed):
    """From every cut point, inside characters too, the first part and its continuation are the whole."""
    one, whole = undisturbed
    cuts = range(1, one.max_tokens)
    firsts = bench.together([replace(one, max_tokens=cut) for cut in cuts])
    rests = bench.together([continued(ask, one, whole.ids[:cut]) for cut in cuts])
    assert len(whole.ids) == one.max_tokens
    for first, rest in zip(firsts, rests, strict=True):
        assert first.ids + rest.ids == whole.ids
        assert first.text + rest.text == whole.text


def test_some_cuts_fall_inside_a_character(bench, ask):
    """The property above is not empty: this answer holds characters whose bytes are several tokens."""
    answer = bench.alone(ask(bench.question("Where is the fleet?"), max_tokens=90))
    assert "Zürich" in answer.text
    assert any(len(delta.token_ids) > 1 for delta in answer.deltas)


@pytest.mark.parametrize(
    "stops", [("São Paulo",), ("東京 and 大", "Köln are x"), ("-1, 東", "and São"), ("ü",)]
)
def test_continuation_is_exact_with_stop_strings(bench, ask, stops):
    """What was released before a cut, and what a continuation from its ids says, are the stopped whole."""
    one = ask(bench.question("Where is the fleet?"), max_tokens=90, stops=stops)
    whole = bench.alone(one)
    assert whole.finish_reason == "stop"
    assert not any(stop in whole.text for stop in stops)
    for cut in range(1, len(whole.deltas)):
        ids = tuple(token for delta in whole.deltas[:cut] for token in delta.token_ids)
        text = "".join(delta.text for delta in whole.deltas[:cut])
        rest = bench.alone(continued(ask, one, ids))
        assert (text + rest.text, ids + rest.ids, rest.finish_reason) == (whole.text, whole.ids, "stop")


def test_another_seed_draws_another_text(bench, ask):
    """Sampling follows its seed: the same seed repeats, another one differs."""
    one = ask(bench.question("Tell me a story."), sampling=Sampling(temperature=1.2, seed=1), ignore_end=True)
    other = replace(one, sampling=replace(one.sampling, seed=2))
    first, again, different = bench.together([one, one, other])
    assert first == again
    assert first.text != different.text
