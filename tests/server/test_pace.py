"""How long a node may be silent, as learned from what was seen."""

import math
from random import Random

import pytest

from server.pace import CUT_FACTOR, MAX_MODELS, SUSPECT_MIN_S, Bounds, Pace, Paces, Patience, Sketch, Wait

PATIENCE = Patience(suspect_s=2.0, stall_s=5.0, first_byte_s=60.0, silence_s=50.0)


def taught(wait: Wait, seconds: float, times: int = 100) -> Bounds:
    for _ in range(times):
        wait.observe(seconds)
    return wait.bounds


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_quantile_is_never_too_low_and_at_most_a_fifth_too_high(share: float) -> None:
    """Against the exact quantile of log-normal waits, which spread over three decades."""
    rng = Random(4)
    values = [rng.lognormvariate(-3, 1.5) for _ in range(1000)]
    sketch = Sketch()
    for value in values:
        sketch.observe(value)
    exact = sorted(values)[round(share * len(values)) - 1]
    assert exact <= sketch.quantile(share) <= exact * 1.2


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_no_wait_is_too_short_or_too_long_to_be_counted(seconds: float) -> None:
    """The ends of the scale take what is beyond them."""
    sketch = Sketch()
    sketch.observe(seconds)
    assert sketch.quantile(0.5) > 0


def test_what_is_past_fades() -> None:
    """A fleet that became fast is held to its new pace, and one that became slow to its own."""
    wait = Pace(PATIENCE).gap
    slow = taught(wait, 4.0)
    fast = taught(wait, 0.02, 20_000)
    assert (slow.cut_s, fast.cut_s) == (pytest.approx(CUT_FACTOR * 4.0, rel=0.2), PATIENCE.stall_s)
    assert taught(wait, 4.0).cut_s > PATIENCE.stall_s


def test_before_anything_is_known_only_the_settings_bind() -> None:
    """Cold: asked soon whether it lives, and cut no sooner than the fixed limits say."""
    pace = Pace(PATIENCE)
    assert pace.gap.bounds == Bounds(2.0, 50.0, 50.0)
    assert pace.first(1000).bounds == Bounds(2.0, 60.0, 60.0)
    assert pace.whole(None).bounds == Bounds(2.0, math.inf, math.inf)
    assert (pace.first_byte_s, pace.stall_s) == (60.0, 50.0)


@pytest.mark.parametrize(("seen", "suspect", "cut"), [(0.001, SUSPECT_MIN_S, 5.0), (900.0, 2.0, 50.0)])
def test_learned_bounds_stay_within_the_settings(seen: float, suspect: float, cut: float) -> None:
    """However fast or slow the fleet was."""
    bounds = taught(Pace(PATIENCE).gap, seen)
    assert (bounds.suspect_s, bounds.cut_s, bounds.most_s) == (suspect, cut, 50.0)


def test_suspicion_never_comes_after_the_cut() -> None:
    """With limits below the time of suspicion, the limits hold."""
    tight = Pace(Patience(suspect_s=2.0, stall_s=5.0, first_byte_s=60.0, silence_s=0.05))
    assert tight.gap.bounds == Bounds(0.05, 0.05, 0.05)
    assert taught(tight.gap, 0.01) == Bounds(0.05, 0.05, 0.05)


def test_a_long_prompt_is_not_measured_by_short_ones() -> None:
    """What small requests took says nothing of one four times their size."""
    pace = Pace(PATIENCE)
    taught(pace.first(500), 0.1)
    assert pace.first(300).bounds.cut_s == PATIENCE.stall_s
    assert pace.first(500_000).bounds.cut_s == PATIENCE.first_byte_s


def test_a_whole_answer_is_measured_by_the_tokens_it_may_have() -> None:
    """Sixteen tokens quickly made do not hurry four thousand, and no whole answer is cut early."""
    pace = Pace(PATIENCE)
    assert taught(pace.whole(16), 0.1).cut_s == PATIENCE.first_byte_s
    assert taught(pace.whole(16), 100.0).cut_s > 500.0
    assert pace.whole(4000).bounds.cut_s == math.inf


def test_a_request_that_was_cut_for_being_slow_is_given_twice_the_time() -> None:
    """A fleet that is slow as a whole serves it in the end, within the settings."""
    bounds = Bounds(1.0, 5.0, 15.0)
    assert [bounds.doubled(times).cut_s for times in range(4)] == [5.0, 10.0, 15.0, 15.0]


def test_models_are_learned_apart() -> None:
    """A large model's pace is not a small one's."""
    paces = Paces(PATIENCE)
    taught(paces.of("large").gap, 6.0)
    taught(paces.of("small").gap, 0.02)
    assert paces.of("large").stall_s > 20
    assert paces.of("small").stall_s == PATIENCE.stall_s


def test_names_that_clients_make_up_do_not_push_out_models_that_are_served() -> None:
    """Memory is bounded, and what has answered stays; a name may be anything."""
    paces = Paces(PATIENCE)
    served = paces.of("served")
    taught(served.gap, 0.02)
    for number in range(10 * MAX_MODELS):
        paces.of(f"made-up-{number}")
    paces.of({"not": "a name"})
    assert paces.of("served") is served
    assert len(paces) <= MAX_MODELS
