"""Who is in a step, who waits, and what is free afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.engine.config import PAGE_TOKENS, Limits
from server.engine.engine import check
from server.engine.errors import EngineError
from server.engine.sampling import Sampling
from server.engine.scheduler import Scheduler

QUESTIONS = [
    "What is a page?",
    "Where is the fleet?",
    "Explain everything about the fleet in detail.",
    "Tell me a story.",
    "日本語で言うと?",
    "How may a stream end?",
    "Write something about Zürich and €412.60, please; it may be long, as long as you like.",
    "?",
]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_sequences=1, max_batch_tokens=64, pages=64),
        Limits(max_sequences=3, max_batch_tokens=40, pages=64),
        Limits(max_sequences=16, max_batch_tokens=48, pages=70),
        Limits(max_sequences=64, max_batch_tokens=512, pages=512),
    ],
    ids=str,
)
def test_greedy_text_is_the_same_alone_and_in_company(bench, ask, limits):
    """Greedy output is identical alone and batched, whatever the limits."""
    asks = [ask(bench.question(text), max_tokens=70 + 5 * n) for n, text in enumerate(QUESTIONS * 2)]
    alone = [bench.alone(one) for one in asks]
    assert bench.together(asks, limits) == alone
    assert len({answer.text for answer in alone}) >= len(QUESTIONS)


def test_long_prompts_are_read_beside_decodes(bench, ask, told):
    """A prompt longer than the budget is read over several steps, beside decodes and within the budget."""
    limits = Limits(max_sequences=4, max_batch_tokens=64, pages=128)
    model, scheduler, short, long = bench.model(limits), Scheduler(limits), told(), told()
    decoding = bench.sequence(ask(bench.question("What is a page?"), ignore_end=True), short)
    scheduler.add(decoding)
    scheduler.apply(step := scheduler.plan(), model.forward(step.slices))
    scheduler.add(bench.sequence(ask(bench.prompt("the drain of a node " * 60), max_tokens=1), long))
    steps = 0
    while not long.deltas:
        step = scheduler.plan()
        assert sum(len(part.tokens) for part in step.slices) <= limits.max_batch_tokens
        assert step.owners[0] is decoding
        assert all(part.start % PAGE_TOKENS == 0 for part in step.slices[1:])
        scheduler.apply(step, model.forward(step.slices))
        steps += 1
    assert steps > 3
    assert len(decoding.tokens) - len(decoding.prompt) == steps + 1


def test_admission_waits_for_pages(bench, ask, told):
    """A sequence waits until the pages for its prompt are free, and nobody overtakes it."""
    limits = Limits(max_sequences=8, max_batch_tokens=64, pages=64)
    scheduler = Scheduler(limits)
    first = bench.sequence(ask((1,) * 40 * PAGE_TOKENS), told())
    large = bench.sequence(ask((2,) * 30 * PAGE_TOKENS), told())
    small = bench.sequence(ask((3,)), told())
    for sequence in (first, large, small):
        scheduler.add(sequence)
    scheduler.plan()
    assert (scheduler.running, list(scheduler.waiting)) == ([first], [large, small])
    scheduler.cancel(first)
    scheduler.plan()
    assert (scheduler.running, list(scheduler.waiting)) == ([large, small], [])
    assert scheduler.pool.free == 64 - 30 - 1


def test_admission_leaves_room_to_grow(bench, ask, told):
    """A prompt that would take the last page that a running sequence may grow by waits."""
    scheduler = Scheduler(Limits(max_sequences=8, max_batch_tokens=64, pages=64))
    first = bench.sequence(ask((1,) * 40 * PAGE_TOKENS), told())
    tight = bench.sequence(ask((2,) * 24 * PAGE_TOKENS), told())
    scheduler.add(first)
    scheduler.add(tight)
    scheduler.plan()
    assert scheduler.running == [first]


def test_preempted_sequences_go_on_exactly(bench, ask, told):
    """When pages run out the youngest waits and reads again, and every text is what it is alone."""
    limits = Limits(max_sequences=8, max_batch_tokens=64, pages=64)
    asks = [ask(bench.question(text), max_tokens=420, ignore_end=True) for text in QUESTIONS]
    sampled = [replace(one, sampling=Sampling(temperature=1, seed=n)) for n, one in enumerate(asks)]
    model, scheduler = bench.model(limits), Scheduler(limits)
    answers = [told() for _ in sampled]
    for one, answer in zip(sampled, answers, strict=True):
        scheduler.add(bench.sequence(one, answer))
    while (step := scheduler.plan()).slices:
        scheduler.apply(step, model.forward(step.slices))
    assert scheduler.preemptions_total > 0
    assert scheduler.pool.free == limits.pages
    assert answers == bench.together(sampled, Limits(pages=512))


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_cancel_frees_pages(bench, ask, told, steps):
    """A sequence that is cancelled while it waits, is read or decodes leaves no page behind."""
    limits = Limits(max_sequences=2, max_batch_tokens=64, pages=64)
    model, scheduler, answer = bench.model(limits), Scheduler(limits), told()
    sequence = bench.sequence(ask(bench.prompt("a node " * 30), max_tokens=50), answer)
    scheduler.add(sequence)
    for _ in range(steps):
        scheduler.apply(step := scheduler.plan(), model.forward(step.slices))
    heard = len(answer.deltas)
    scheduler.cancel(sequence)
    scheduler.cancel(sequence)
    assert scheduler.pool.free == limits.pages
    assert scheduler.plan().slices == []
    assert len(answer.deltas) == heard


def test_cancel_during_a_step_is_safe(bench, ask, told):
    """The result of a step is dropped for a sequence that was cancelled while the model computed it."""
    limits = Limits(max_sequences=2, max_batch_tokens=64, pages=64)
    model, scheduler, gone, kept = bench.model(limits), Scheduler(limits), told(), told()
    leaving = bench.sequence(ask(bench.question("Hello"), max_tokens=9), gone)
    scheduler.add(leaving)
    scheduler.add(bench.sequence(ask(bench.question("Hello"), max_tokens=9), kept))
    step = scheduler.plan()
    scheduler.cancel(leaving)
    scheduler.apply(step, model.forward(step.slices))
    assert gone.deltas == []
    assert kept.ids
    assert scheduler.pool.free == limits.pages - 1


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (Limits(max_sequences=0), "max-sequences"),
        (Limits(pages=63), "pages must be at least 64"),
        (Limits(max_sequences=64, max_batch_tokens=95), "max-batch-tokens must be at least .* 96"),
    ],
)
def test_limits_under_which_a_request_could_starve_are_refused(trained, limits, names):
    """Impossible limits are an error at the start that names the option."""
    with pytest.raises(EngineError, match=names):
        check(limits, trained.shape)
