"""The pure decisions: how many of which to launch and end, what tracking wants, what the market gives."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cost import PriceUnknown
from fleet.rehearsal.cloud.capacity import Fact, Plan, Split, ceiling, choose_victims, plan, units
from fleet.rehearsal.cloud.health import matches
from fleet.rehearsal.cloud.tracking import Breach, Decision, Policy, Sizes, decide, observe
from fleet.rehearsal.market import Market, Offer, Pool, choose, on_demand_price


def fact(name: str, option: str = "spot", zone: str = "a", **fields: object) -> Fact:
    known = {
        "launched_at": 0.0,
        "template_version": 1,
        "settled": True,
        "leaving": False,
        "protected": False,
    }
    return Fact(name, option, zone, **{**known, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "percentage", "capacity", "on_demand"),
    [(0, 0, 5, 0), (1, 0, 5, 1), (1, 25, 8, 3), (2, 50, 5, 4), (3, 0, 2, 2), (0, 100, 4, 4), (0, 1, 1, 1)],
)
def test_the_split_favours_on_demand(base: int, percentage: int, capacity: int, on_demand: int) -> None:
    """The base comes first, then the percentage of the rest, rounded up to on-demand."""
    assert Split(base, percentage).on_demand(capacity) == on_demand


@given(st.integers(0, 9), st.integers(0, 100), st.integers(0, 30))
def test_the_split_is_within_capacity(base: int, percentage: int, capacity: int) -> None:
    """Whatever the policy, on-demand is between the base and the whole."""
    assert min(base, capacity) <= Split(base, percentage).on_demand(capacity) <= capacity


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 12), st.integers(0, 4), st.integers(0, 100))
def test_plans_reach_the_desired_capacity(
    on_demand: int, spot: int, desired: int, base: int, percentage: int
) -> None:
    """Applied until nothing is left to do, plans end at the desired capacity and split."""
    split = Split(base, percentage)
    facts = [fact(f"o{n}", "on-demand") for n in range(on_demand)] + [fact(f"s{n}") for n in range(spot)]
    for step in range(60):
        wanted = plan(facts, desired, split)
        if wanted == Plan():
            break
        facts = [
            fact(f.instance_id, f.option, leaving=f.leaving or f.instance_id in wanted.leave)
            for f in facts
            if f.instance_id not in wanted.terminate
        ]
        facts += [fact(f"o{step}.{n}", "on-demand") for n in range(wanted.launch_on_demand)]
        facts += [fact(f"s{step}.{n}") for n in range(wanted.launch_spot)]
    bought = Counter(f.option for f in facts)
    assert bought["on-demand"] == split.on_demand(desired)
    assert len(facts) == desired


WEIGHTS = st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=3)


@given(WEIGHTS, WEIGHTS, st.integers(0, 12), st.integers(0, 4), st.integers(0, 100))
def test_weighted_plans_fulfil_the_desired_capacity(
    now: list[int], bought: list[int], desired: int, base: int, percentage: int
) -> None:
    """They come to rest at the desired units or above, with no spot node that could go, and their base."""
    split = Split(base, percentage)
    facts = [fact(f"s{n}", weight=weight) for n, weight in enumerate(now)]
    for step in range(80):
        wanted = plan(facts, desired, split)
        if wanted == Plan():
            break
        facts = [
            fact(f.instance_id, f.option, leaving=f.leaving or f.instance_id in wanted.leave, weight=f.weight)
            for f in facts
            if f.instance_id not in wanted.terminate
        ]
        on_demand = launched(wanted.launch_on_demand, bought)
        spare = max(0, sum(on_demand) - wanted.launch_on_demand)
        spot = launched(wanted.launch_spot - spare, bought)
        facts += [fact(f"o{step}.{n}", "on-demand", weight=weight) for n, weight in enumerate(on_demand)]
        facts += [fact(f"s{step}.{n}", weight=weight) for n, weight in enumerate(spot)]
    assert wanted == Plan()
    have = units(facts)
    assert have >= desired
    assert not any(f.weight <= have - desired for f in facts if f.option == "spot")
    assert units(f for f in facts if f.option == "on-demand") >= split.on_demand(desired)


def launched(wanted: int, weights: list[int]) -> list[int]:
    """Weights of the nodes that a market gives until so many units are there."""
    found: list[int] = []
    while sum(found) < wanted:
        found.append(weights[len(found) % len(weights)])
    return found


def test_scale_in_never_takes_more_than_the_surplus() -> None:
    """A node of five units stays where three are too many, and a smaller one goes."""
    facts = [fact("big", weight=5), fact("small", weight=2), fact("other", weight=2)]
    assert plan(facts, 6, Split(0, 0)).terminate == ("small",)
    assert plan(facts[:1], 3, Split(0, 0)) == Plan()


def test_leaving_members_go_when_others_are_settled() -> None:
    """A member that leaves is replaced first and ended only once the replacement is settled."""
    leaving, staying = fact("old", leaving=True), fact("other")
    assert plan([leaving, staying], 2, Split(0, 0)) == Plan(launch_spot=1)
    assert plan([leaving, staying, fact("new", settled=False)], 2, Split(0, 0)) == Plan()
    assert plan([leaving, staying, fact("new")], 2, Split(0, 0)) == Plan(terminate=("old",))


def test_replacing_exceeds_the_maximum_by_a_tenth_only() -> None:
    """A storm of leaving members is replaced in steps when the group is at its maximum."""
    facts = [fact(str(n), leaving=True) for n in range(4)]
    assert plan(facts, 4, Split(0, 0), most=ceiling(4)).launch_spot == 1
    assert plan(facts, 4, Split(0, 0), most=2) == Plan()
    assert ceiling(30) == 33


@pytest.mark.parametrize(
    ("base", "protected", "leaves"),
    [(1, "", ()), (2, "", ("s1",)), (4, "", ("s1",)), (2, "s1", ("s2",)), (0, "", ("od",)), (0, "od", ())],
)
def test_members_of_the_wrong_side_are_replaced_one_by_one(
    base: int, protected: str, leaves: tuple[str, ...]
) -> None:
    """The oldest first, never a protected one, and none while any starts."""
    options = {"od": "on-demand", "s1": "spot", "s2": "spot", "s3": "spot"}
    facts = [
        fact(name, option, launched_at=float(age), protected=name == protected)
        for age, (name, option) in enumerate(options.items())
    ]
    assert plan(facts, 4, Split(base, 0)) == Plan(leave=leaves)
    starting = [*facts[:3], fact("s3", settled=False)]
    assert plan(starting, 4, Split(base, 0)) == Plan()


def test_protected_members_are_never_chosen() -> None:
    """Scale-in ends fewer than asked rather than a protected member."""
    facts = [fact("a", protected=True), fact("b")]
    assert choose_victims(facts, 2, 0, ("Default",)) == ("b",)


@pytest.mark.parametrize(
    ("policies", "victim"),
    [(("NewestInstance",), "new"), (("OldestInstance",), "old"), (("Default",), "old")],
)
def test_termination_policies_choose(policies: tuple[str, ...], victim: str) -> None:
    """Within a side and a zone the group's termination policy decides."""
    facts = [fact("old", launched_at=1.0), fact("new", launched_at=2.0)]
    assert choose_victims(facts, 1, 0, policies) == (victim,)


@pytest.mark.parametrize(
    ("on_demand_wanted", "surplus", "victims"), [(1, 1, ("od",)), (2, 1, ("old",)), (1, 2, ("od", "old"))]
)
def test_the_side_that_exceeds_the_split_goes_first(
    on_demand_wanted: int, surplus: int, victims: tuple[str, ...]
) -> None:
    """However old the other side is; what the split wants on demand stays."""
    facts = [
        fact("old", launched_at=1.0),
        fact("od", "on-demand", launched_at=2.0),
        fact("od2", "on-demand", launched_at=3.0),
    ]
    assert choose_victims(facts, surplus, on_demand_wanted, ("OldestInstance",)) == victims


def test_the_fullest_zone_goes_before_the_oldest() -> None:
    """So that zones stay even; within one the policy decides."""
    facts = [fact("a", zone="a", launched_at=1.0)]
    facts += [fact(f"b{n}", zone="b", launched_at=2.0 + n) for n in range(3)]
    assert choose_victims(facts, 2, 0, ("OldestInstance",)) == ("b0", "b1")


CPU, REQUESTS = Policy("cpu", 50.0), Policy("requests", 100.0)
LONG = Breach(above_since=-10_000.0)
LOW = Breach(below_since=-10_000.0)


def decided(
    values: dict[str, float | None],
    breaches: dict[str, Breach],
    policies: tuple[Policy, ...] = (CPU, REQUESTS),
    sizes: Sizes = Sizes(4, 1, 10, 4, 0),  # noqa: B008  frozen
) -> Decision:
    return decide(policies, values, breaches, sizes, 0.0, 1.0)


def wanted(values: dict[str, float | None], breaches: dict[str, Breach], warming: int = 0) -> int:
    return decided(values, breaches, sizes=Sizes(4, 1, 10, 4, warming)).after


@pytest.mark.parametrize(
    ("cpu", "breach", "sizes", "why", "after"),
    [
        (80.0, Breach(above_since=-179.0), Sizes(4, 1, 10, 4, 0), "rising", 4),
        (80.0, Breach(above_since=-180.0), Sizes(4, 1, 10, 4, 0), "above its target", 7),
        (80.0, LONG, Sizes(4, 1, 4, 4, 0), "at the maximum", 4),
        (80.0, LONG, Sizes(7, 1, 10, 4, 3), "warming up", 7),
        (20.0, Breach(below_since=-899.0), Sizes(4, 1, 10, 4, 0), "falling", 4),
        (20.0, Breach(below_since=-900.0), Sizes(4, 1, 10, 4, 0), "below its target", 2),
        (20.0, LOW, Sizes(4, 4, 10, 4, 0), "at the minimum", 4),
        (44.0, LOW, Sizes(4, 1, 10, 4, 0), "near its target", 4),
        (20.0, LOW, Sizes(4, 1, 10, 3, 1), "warming up", 4),
        (None, Breach(), Sizes(4, 1, 10, 4, 0), "no data", 4),
        (48.0, Breach(), Sizes(4, 1, 10, 4, 0), "near its target", 4),
    ],
)
def test_a_decision_says_why(cpu: float | None, breach: Breach, sizes: Sizes, why: str, after: int) -> None:
    """With the metric that decided, its target, and the capacity before and after."""
    found = decided({"cpu": cpu}, {"cpu": breach}, (CPU,), sizes)
    assert (found.why, found.after, found.before) == (why, after, sizes.desired)
    assert (found.policy, found.value, found.target) == ("cpu", cpu, 50.0)


def test_policies_that_only_scale_out_have_no_say_in_scaling_in() -> None:
    """DisableScaleIn: the others alone decide; where there are none, nothing is ever taken away."""
    only_out = Policy("requests", 100.0, disable_scale_in=True)
    values, low = {"cpu": 1.0, "requests": 99.0}, {"cpu": LOW, "requests": Breach()}
    assert decided(values, low, (CPU, only_out)).after == 1
    assert decided({"requests": 1.0}, {"requests": LOW}, (only_out,)).why == "scale-in is off"
    assert decided({"requests": 200.0}, {"requests": LONG}, (only_out,)).after == 8


def test_points_of_ten_seconds_scale_out_sooner() -> None:
    """Three of them, not three minutes; scaling in is as slow as ever."""
    quick = Policy("cpu", 50.0, period=10.0)
    assert decided({"cpu": 100.0}, {"cpu": Breach(above_since=-30.0)}, (quick,)).after == 8
    assert decided({"cpu": 1.0}, {"cpu": Breach(below_since=-899.0)}, (quick,)).why == "falling"


def test_any_policy_scales_out_and_all_scale_in() -> None:
    """Out if any policy wants it, to the most wanted; in only if all want it."""
    assert wanted({"cpu": 100.0, "requests": 10.0}, {"cpu": LONG, "requests": LOW}) == 8
    assert wanted({"cpu": 100.0, "requests": 150.0}, {"cpu": LONG, "requests": LONG}) == 8
    assert wanted({"cpu": 75.0, "requests": 200.0}, {"cpu": LONG, "requests": LONG}) == 8
    assert wanted({"cpu": 1.0, "requests": 100.0}, {"cpu": LOW, "requests": Breach()}) == 4
    assert wanted({"cpu": 1.0, "requests": 50.0}, {"cpu": LOW, "requests": LOW}) == 2


def test_missing_data_and_warmup_forbid_scaling_in() -> None:
    """A metric without data, or a member that warms up, keeps the group from shrinking."""
    assert wanted({"cpu": 1.0, "requests": None}, {"cpu": LOW, "requests": Breach()}) == 4
    assert wanted({"cpu": 1.0, "requests": 1.0}, {"cpu": LOW, "requests": LOW}, warming=1) == 4


@given(st.floats(0, 1000), st.floats(0, 1000), st.sampled_from([LONG, LOW, Breach()]))
def test_tracking_stays_within_bounds(cpu: float, requests: float, breach: Breach) -> None:
    """Never beyond the minimum or the maximum, whatever the metrics say."""
    assert 1 <= wanted({"cpu": cpu, "requests": requests}, {"cpu": breach, "requests": breach}) <= 10


def test_a_breach_lasts_while_it_holds() -> None:
    """The breach keeps its start while the metric stays there, and ends when it does not."""
    first = observe(Breach(), CPU, 80.0, 10.0)
    assert observe(first, CPU, 90.0, 20.0).above_since == 10.0
    assert observe(first, CPU, 48.0, 20.0) == Breach()
    assert observe(first, CPU, None, 20.0) == Breach()
    low = observe(Breach(), CPU, 44.9, 10.0)
    assert observe(low, CPU, 1.0, 20.0) == Breach(below_since=10.0)
    assert observe(low, CPU, 80.0, 20.0) == Breach(above_since=20.0)


def test_at_its_target_or_at_nine_tenths_of_it_a_metric_is_well() -> None:
    """Only beyond does time begin to count."""
    assert observe(Breach(), CPU, 50.0, 10.0) == observe(Breach(), CPU, 45.0, 10.0) == Breach()


@pytest.mark.parametrize(
    ("matcher", "good"), [("200", {200}), ("200,202", {200, 202}), ("200-299", {200, 250})]
)
def test_matchers_match(matcher: str, good: set[int]) -> None:
    """A matcher takes single codes, lists and ranges."""
    assert {code for code in (199, 200, 202, 250, 300) if matches(matcher, code)} >= good
    assert not matches(matcher, 503)


POOLS = [Pool(kind, zone) for kind in ("g5.xlarge", "g4dn.xlarge") for zone in ("us-east-1a", "us-east-1b")]


def test_markets_are_their_seed() -> None:
    """One seed gives the same prices and capacities, another seed others; spot is 30-40% of on-demand."""
    one, same, other = Market(1), Market(1), Market(2)
    assert one.offers(POOLS, "spot") == same.offers(POOLS, "spot")
    assert one.offers(POOLS, "spot") != other.offers(POOLS, "spot")
    for offer in one.offers(POOLS, "spot"):
        assert 0.3 <= offer.price / on_demand_price(offer.pool.instance_type) <= 0.4


def test_pools_run_dry_and_refill() -> None:
    """A dry pool gives nothing, the others do; taking uses capacity up and giving back restores it."""
    market = Market(1)
    market.dry(POOLS[0])
    assert POOLS[0] not in [offer.pool for offer in market.offers(POOLS, "spot")]
    assert market.capacity(POOLS[0], "on-demand") > 0
    market.refill()
    before = market.capacity(POOLS[0], "spot")
    market.take(POOLS[0], "spot")
    assert market.capacity(POOLS[0], "spot") == before - 1
    market.give_back(POOLS[0], "spot")
    assert market.capacity(POOLS[0], "spot") == before


def test_strategies_choose_pools() -> None:
    """Each allocation strategy takes the pool that AWS documents for it."""
    shallow, middle, deep = (
        Offer(POOLS[n], price, depth) for n, price, depth in [(0, 1, 4), (1, 2, 20), (2, 3, 30)]
    )
    offers = [middle, shallow, deep]
    assert choose(offers, "prioritized") == middle
    assert choose(offers, "lowest-price") == shallow
    assert choose(offers, "capacity-optimized") == deep
    assert choose(offers, "price-capacity-optimized") == middle
    assert choose([], "lowest-price") is None


def test_a_type_without_a_price_is_refused() -> None:
    """An unknown type is an error that says where to add its price."""
    with pytest.raises(PriceUnknown, match=r"zz9\.huge in the table of us-east-1"):
        on_demand_price("zz9.huge")
