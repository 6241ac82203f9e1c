"""The fallback policy, one decision at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.control.fallback import Memory, Rules, TierState, base_for, decide, on_demand_of

RULES = Rules(base=1, most=100, after_s=30.0, hold_s=600.0, longest_hold_s=3600.0)
NOW = 1_000_000.0


def short(**fields: object) -> TierState:
    """Five wanted, one of them on demand, of four of spot only two there; a launch has just failed."""
    usual: dict[str, object] = {"tier": "model", "desired": 5, "maximum": 8, "base": 1, "percent": 0}
    usual |= {"on_demand": 1, "spot": 2, "in_service": 3, "spot_failures": (NOW - 5,)}
    return TierState(**(usual | fields))  # type: ignore[arg-type]


def test_a_shortage_without_a_failed_launch() -> None:
    """Nodes that are missing for another reason raise nothing: on demand would be missing as well."""
    decision = decide(short(spot_failures=()), RULES, None, NOW)
    assert decision.base == 1


def test_a_failed_launch_without_a_shortage() -> None:
    """Where all that is wanted of spot is there, a failed launch of another kind raises nothing."""
    assert decide(short(spot=4), RULES, None, NOW).base == 1


def test_a_shortage_that_is_too_young() -> None:
    """Nothing is raised before `after_s`; the decision says when to look again, and remembers since when."""
    decision = decide(short(), RULES, None, NOW)
    assert decision.base == 1
    assert decision.again_s == pytest.approx(25.0)
    assert decision.memory is not None
    assert decision.memory.short_since == NOW - 5


def test_a_shortage() -> None:
    """The base is raised by just what is missing: no spot node that serves is replaced for it."""
    first = decide(short(), RULES, None, NOW)
    second = decide(short(spot_failures=(NOW - 5, NOW + 20)), RULES, first.memory, NOW + 25)
    assert second.base == 3
    assert "2 of spot missing" in second.why


def test_a_shortage_beyond_the_most() -> None:
    """The base stops at what the settings allow, and stays there without a change at every look."""
    rules, memory = replace(RULES, most=2), Memory(1, NOW - 100, short_since=NOW - 60)
    raised = decide(short(spot_failures=(NOW - 5,)), rules, memory, NOW)
    assert raised.base == 2
    later = short(base=2, on_demand=2, spot_failures=(NOW + 10,))
    waiting = decide(later, rules, raised.memory, NOW + 15)
    again = decide(later, rules, waiting.memory, NOW + 60)
    assert again.base == 2
    assert "no more may be on demand" in again.why


def test_an_update_that_takes_the_base_back() -> None:
    """The configured base comes with any update of the group's policy: what was raised is raised again."""
    decision = decide(short(spot_failures=()), RULES, Memory(4, NOW - 60, failed=2), NOW)
    assert (decision.base, decision.memory) == (4, Memory(4, NOW, failed=2))


def test_a_base_that_somebody_raised() -> None:
    """It is held like one of our own, and not taken back at once."""
    decision = decide(short(base=4, on_demand=4, spot=1, spot_failures=()), RULES, None, NOW)
    assert (decision.base, decision.memory) == (4, Memory(4, NOW))


def test_fallback_that_is_switched_off() -> None:
    """What was raised here goes back to the configured base; what somebody else set does not."""
    off = replace(RULES, enabled=False)
    state = short(base=4, on_demand=4, spot=1)
    assert decide(state, off, Memory(4, NOW - 1), NOW).base == 1
    assert decide(state, off, Memory(3, NOW - 1), NOW).base == 4


def test_a_step_in_vain() -> None:
    """Spot that does not come after a step: the base goes back by as much, and the next hold doubles."""
    lowered = Memory(2, NOW - 60, lowered=1)
    state = short(base=2, on_demand=3, spot=2, spot_failures=(NOW - 50, NOW - 40))
    waiting = decide(state, RULES, lowered, NOW - 40)
    back = decide(state, RULES, waiting.memory, NOW)
    assert back.base == 3
    assert back.memory is not None
    assert back.memory.failed == 1
    assert RULES.hold(back.memory.failed) == 2 * RULES.hold(0)


def test_two_looks_at_once() -> None:
    """A step that another look has decided, and not yet made, is made: it is nobody's raise by hand."""
    memory = Memory(2, NOW - 1, lowered=1, failed=1)
    decision = decide(short(base=3, on_demand=3, spot=2, spot_failures=()), RULES, memory, NOW)
    assert (decision.base, decision.memory) == (2, memory)
    bounded = decide(
        short(base=3, on_demand=3, spot=2, spot_failures=()),
        replace(RULES, base=2),
        Memory(1, NOW, lowered=1),
        NOW,
    )
    assert (bounded.base, bounded.memory) == (2, Memory(2, NOW, lowered=1))
    later = decide(short(base=3, on_demand=3, spot=2, spot_failures=()), RULES, memory, NOW + 60)
    assert (later.base, later.memory) == (3, Memory(3, NOW + 60))


def test_nodes_of_several_units() -> None:
    """A node that is larger than what is wanted of its kind is not too much; steps are a whole node each."""
    state = short(desired=12, maximum=12, base=9, on_demand=10, spot=2, spot_failures=())
    state = replace(state, largest=4, smallest=2)
    decision = decide(state, RULES, Memory(9, NOW - 700), NOW)
    assert (decision.base, decision.why) == (5, "trying whether spot is back")
    waits = replace(state, base=5, on_demand=10)
    assert decide(waits, RULES, Memory(5, NOW - 700, lowered=4), NOW).base == 5


def test_steps_grow_while_spot_follows() -> None:
    """Each step that spot followed is followed by one of twice its size, to the configured base."""
    base, memory, steps, now = 16, Memory(16, NOW), [], NOW
    while base > 1:
        now += RULES.hold_s
        state = short(desired=16, maximum=16, base=base, on_demand=base, spot=16 - base, spot_failures=())
        decision = decide(state, RULES, memory, now)
        steps.append(base - decision.base)
        assert decision.memory is not None
        base, memory = decision.base, decision.memory
    assert steps == [1, 2, 4, 8]


def test_neither_is_to_be_had() -> None:
    """Where on-demand launches fail too, spot is asked for again after the hold, rather than never."""
    memory = Memory(5, NOW - 700)
    state = short(base=5, on_demand=2, spot=0, spot_failures=(), on_demand_failures=(NOW - 50,))
    assert decide(state, RULES, memory, NOW).base == 4


def test_a_base_beyond_the_most() -> None:
    """Where the settings allow less than was raised, it goes down to that at once."""
    decision = decide(short(base=4, on_demand=4, spot=1), replace(RULES, most=3), Memory(4, NOW), NOW)
    assert (decision.base, decision.memory) == (3, Memory(3, NOW))


def test_failures_of_before() -> None:
    """A launch that failed before the last change, or long ago, says nothing of what was asked for since."""
    shortage = {"base": 2, "on_demand": 3, "spot": 2}
    lowered = Memory(2, NOW - 100, lowered=1, short_since=NOW - 90)
    before = decide(short(**shortage, spot_failures=(NOW - 101,)), RULES, lowered, NOW)
    assert before.memory == replace(lowered, short_since=None)
    old = replace(lowered, at=NOW - 5000, short_since=NOW - 4000)
    assert decide(short(**shortage, spot_failures=(NOW - 700,)), RULES, old, NOW).base == 2


def test_spot_that_fails_elsewhere() -> None:
    """Launches that fail for another reason than the split, as when zones are balanced, prolong the hold."""
    state = short(base=3, on_demand=3, spot=2, spot_failures=(NOW - 100,))
    decision = decide(state, RULES, Memory(3, NOW - 700), NOW)
    assert (decision.base, decision.again_s) == (3, pytest.approx(500))


def test_a_tier_that_shrank_meanwhile() -> None:
    """A base above what is desired is lowered to where a step tries something."""
    state = short(desired=3, base=8, on_demand=3, spot=0, spot_failures=())
    assert decide(state, RULES, Memory(8, NOW - 700), NOW).base == 2


def test_steps_in_vain_are_forgotten() -> None:
    """Once spot has followed two steps, or the last try was long ago, holds are as in the beginning."""
    state = short(desired=9, maximum=9, base=6, on_demand=6, spot=3, spot_failures=())
    second = decide(state, RULES, Memory(6, NOW - 700, lowered=1, failed=3), NOW)
    assert second.memory == Memory(4, NOW, lowered=2, failed=0)
    lost = Memory(1, NOW - 9000, lowered=2, failed=3, short_since=NOW - 40)
    raised = decide(short(), RULES, lost, NOW)
    assert raised.memory == Memory(3, NOW, failed=0)
    most = Memory(1, NOW - 50, lowered=2, failed=16, short_since=NOW - 40)
    assert decide(short(), RULES, most, NOW).memory == Memory(3, NOW, failed=16)


def test_a_clock_that_was_ahead() -> None:
    """A memory of the future is one of now: a hold does not last until then."""
    state = short(base=3, on_demand=3, spot=2, spot_failures=())
    assert decide(state, RULES, Memory(3, NOW + 1e6), NOW).again_s == pytest.approx(600)


# ---- beside a rollout, while which AWS refuses every change of the base

SHORT = Memory(1, NOW - 100, short_since=NOW - 60)


def test_a_shortage_while_a_rollout_runs() -> None:
    """It waits ten times as long as any, remembers since when, and then the rollout gives way."""
    running = short(rollout="runs")
    waits = decide(running, RULES, SHORT, NOW)
    assert (waits.base, waits.memory, waits.cancels_rollout) == (1, SHORT, False)
    assert waits.again_s == pytest.approx(240.0)
    later = decide(replace(running, spot_failures=(NOW + 230,)), RULES, waits.memory, NOW + 240)
    assert (later.base, later.cancels_rollout) == (3, True)
    assert later.why == "2 of spot missing; the rollout gives way"


def test_a_shortage_while_a_rollout_goes_back() -> None:
    """What is taken away may be harmful: that is stopped by a person alone."""
    waits = decide(short(rollout="goes back"), RULES, replace(SHORT, short_since=NOW - 9000), NOW)
    assert (waits.base, waits.cancels_rollout) == (1, False)


def test_what_is_no_shortage_waits_for_a_rollouts_end() -> None:
    """A step down, or a base that `up` has just raised: nothing is missing, so nothing gives way."""
    whole = short(rollout="runs", spot=4, base=3, on_demand=3)
    raised = Memory(3, NOW - 10_000)
    assert decide(replace(whole, spot=2, spot_failures=()), RULES, raised, NOW).base == 3
    configured = short(rollout="runs", spot=4)
    for memory in (None, Memory(1, NOW - 100, short_since=NOW - 9000)):
        waits = decide(configured, replace(RULES, base=3), memory, NOW)
        assert (waits.base, waits.cancels_rollout) == (1, False)
        assert waits.memory is None or waits.memory.short_since is None


counts = st.integers(0, 30)
times = st.floats(NOW - 5000, NOW)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[TierState, Rules, Memory | None]:
    maximum = draw(st.integers(1, 30))
    state = TierState(
        tier="model",
        desired=draw(st.integers(0, maximum)),
        maximum=maximum,
        base=draw(counts),
        percent=draw(st.sampled_from((0, 0, 10, 50, 100))),
        on_demand=draw(counts),
        spot=draw(counts),
        in_service=draw(counts),
        spot_failures=tuple(draw(st.lists(times, max_size=4))),
        on_demand_failures=tuple(draw(st.lists(times, max_size=2))),
        largest=draw(st.sampled_from((1, 1, 4))),
        smallest=draw(st.sampled_from((1, 1, 2))),
        rollout=draw(st.sampled_from(("none", "none", "runs", "goes back"))),
    )
    base = draw(st.integers(0, 20))
    rules = Rules(
        base, draw(st.integers(0, 40)), 30.0, 600.0, 3600.0, draw(st.sampled_from((True, True, False)))
    )
    known = st.builds(
        Memory,
        base=st.one_of(st.just(state.base), counts),
        at=times,
        lowered=st.integers(0, 8),
        failed=st.integers(0, 20),
        short_since=st.one_of(st.none(), times),
    )
    return state, rules, draw(st.one_of(st.none(), known))


@given(tiers())
@settings(max_examples=400, deadline=None)
def test_bounds(tier: tuple[TierState, Rules, Memory | None]) -> None:
    """Never below the configured base, never above the group's max or the settings' most."""
    state, rules, memory = tier
    decision = decide(state, rules, memory, NOW)
    if decision.base != state.base:
        least = min(rules.base, state.maximum)
        assert least <= decision.base <= max(least, min(rules.most, state.maximum))
        assert decision.memory is not None
        assert decision.memory.base == decision.base
        assert decision.cancels_rollout == (state.rollout == "runs")
        assert state.rollout != "goes back"


@given(tiers())
@settings(max_examples=400, deadline=None)
def test_idempotent(tier: tuple[TierState, Rules, Memory | None]) -> None:
    """Asked again once its decision is carried out, at the same moment, it changes nothing more."""
    state, rules, memory = tier
    first = decide(state, rules, memory, NOW)
    if first.cancels_rollout:
        state = replace(state, rollout="none")
    second = decide(replace(state, base=first.base), rules, first.memory, NOW)
    assert second.base == first.base
    third = decide(replace(state, base=first.base), rules, second.memory, NOW)
    assert (third.base, third.memory) == (second.base, second.memory)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_least_base(on_demand: int, desired: int, percent: int) -> None:
    """It gives what is asked for, and one less would not."""
    base = base_for(min(on_demand, desired), desired, percent)
    assert on_demand_of(desired, base, percent) >= min(on_demand, desired)
    assert base == 0 or on_demand_of(desired, base - 1, percent) < min(on_demand, desired)
