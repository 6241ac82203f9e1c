"""A bill from materials and prices, by figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.cost import PriceTable, PriceUnknown, make_bill
from fleet.cost.bill import on_demand_units
from fleet.cost.materials import Fixed, Materials, TierMaterials, VolumeMaterial
from fleet.rehearsal.cloud.capacity import Split

ITEMS = {
    "alarm": (0.1, "month"),
    "gp3Storage": (0.08, "GiB-month"),
    "gp3Iops": (0.005, "IOPS-month"),
    "gp3Throughput": (0.04, "MiB/s-month"),
    "volumeInitialization": (0.003, "GiB"),
    "natGateway": (0.05, "hour"),
    "natTraffic": (0.045, "GB"),
    "loadBalancerCapacityUnit": (0.008, "hour"),
    "logIngestion": (0.5, "GB"),
    "trafficOut": (0.09, "GB"),
    "customMetric": (0.3, "month"),
    "dashboard": (3.65, "month"),
}


def table(**changed: Any) -> PriceTable:
    dated = {"date": "2026-01-01", "source": "a test"}
    document = {
        "format": 1,
        "region": "us-east-1",
        "currency": "USD",
        "onDemand": {**dated, "usdPerHour": {"a.large": 1.0, "b.large": 2.0, "c.4xlarge": 6.0}},
        "spot": {**dated, "shareOfOnDemand": 0.5},
        "items": {name: {"usd": usd, "per": per, **dated} for name, (usd, per) in ITEMS.items()},
    }
    return PriceTable.model_validate({**document, **changed})


TIER = TierMaterials(
    name="model",
    instance_types=("a.large", "b.large"),
    min=1,
    desired=5,
    max=10,
    on_demand_base=1,
    on_demand_percent=25,
    volumes=(),
    detailed_monitoring=False,
)


def bill_of(*tiers: TierMaterials, fixed: tuple[Fixed, ...] = ()) -> Any:
    return make_bill(Materials("prod", tiers, fixed), table())


@pytest.mark.parametrize("units", [0, 1, 2, 5, 7, 100])
@pytest.mark.parametrize(("base", "percent"), [(0, 0), (1, 0), (2, 25), (3, 33), (0, 100)])
def test_the_split_is_the_emulated_clouds(units: int, base: int, percent: int) -> None:
    """A bill counts on-demand nodes as Auto Scaling launches them."""
    assert on_demand_units(units, base, percent) == Split(base, percent).on_demand(units)


def test_each_option_has_its_price() -> None:
    """Of 5: the base and a quarter of the rest rounded up on the first type, the others on cheap spot."""
    desired = bill_of(TIER).case("desired")
    assert desired.by("option") == {"on-demand": 2 * 1.0, "spot": pytest.approx(3 * 0.5)}
    assert desired.usd_per_month == pytest.approx(730 * 3.5)


def test_spot_is_the_cheaper_half_of_the_types() -> None:
    """By the unit: a large type of great weight may be the cheapest."""
    tier = replace(
        TIER,
        instance_types=("a.large", "b.large", "c.4xlarge"),
        weights={"c.4xlarge": 12},
        on_demand_base=0,
        on_demand_percent=0,
        desired=12,
    )
    (line,) = bill_of(tier).case("desired").lines
    assert line.usd_per_hour == pytest.approx(12 * (0.5 + 3 / 12) / 2)
    assert line.count == pytest.approx(12 * (1 + 1 / 12) / 2)


def test_the_worst_case_is_max_without_spot_on_the_dearest_type() -> None:
    """All of it on demand: what a spot drought may cost."""
    worst = bill_of(TIER).case("worst")
    assert worst.usd_per_hour == pytest.approx(10 * 2.0)
    assert "spot" not in worst.by("option")


def test_savings_are_against_the_same_nodes_on_demand() -> None:
    """5 on demand are 5.0 an hour, with spot 3.5."""
    bill = bill_of(TIER)
    assert bill.case("all on demand").usd_per_hour == pytest.approx(5.0)
    assert bill.saved_percent == pytest.approx(30.0)


def test_cases_grow_with_the_tier() -> None:
    """Min, desired, max and worst are in that order."""
    cases = [bill_of(TIER).case(name).usd_per_hour for name in ("min", "desired", "max", "worst")]
    assert cases == sorted(cases)
    assert len(set(cases)) == len(cases)


def test_volumes_cost_size_and_what_is_above_the_free_pace() -> None:
    """A GiB-month each, 3000 operations and 125 MiB/s free, for every node."""
    volume = VolumeMaterial(gib=100, mibps=225, iops=4000)
    lines = bill_of(replace(TIER, volumes=(volume,))).case("desired").by("what")
    assert lines["volumes"] == pytest.approx(5 * (8 + 5 + 4) / 730)


def test_a_rate_is_charged_at_each_launch() -> None:
    """By the GiB, in proportion to 300 MiB/s; it is told apart, for launches do not come by the hour."""
    volume = VolumeMaterial(gib=100, mibps=125, iops=3000, initialization_mibps=150)
    assert bill_of(replace(TIER, volumes=(volume,))).launches == {"model": pytest.approx(0.15)}
    assert bill_of(TIER).launches == {}


def test_weights_count_units_as_nodes() -> None:
    """A type of weight 4 gives 4 units for its price, and one node's volumes for 4 units."""
    volume = VolumeMaterial(gib=100, mibps=125, iops=3000)
    tier = replace(
        TIER,
        instance_types=("c.4xlarge",),
        weights={"c.4xlarge": 4},
        desired=8,
        on_demand_base=0,
        on_demand_percent=100,
        volumes=(volume,),
    )
    desired = bill_of(tier).case("desired")
    assert desired.by("option")["on-demand"] == pytest.approx(8 * 6.0 / 4)
    assert desired.by("what")["volumes"] == pytest.approx(2 * 8 / 730)


def test_detailed_monitoring_is_seven_metrics_a_node() -> None:
    """CloudWatch charges them as custom ones."""
    lines = bill_of(replace(TIER, detailed_monitoring=True)).case("desired").by("what")
    assert lines["detailed monitoring"] == pytest.approx(5 * 7 * 0.3 / 730)


def test_fixed_items_are_hourly_whatever_their_unit() -> None:
    """An hour's price as it is, a month's by 730 hours; size changes neither."""
    fixed = (Fixed("NAT gateways", "natGateway", 3), Fixed("dashboards", "dashboard", 2))
    for case in bill_of(fixed=fixed).cases:
        assert case.by("what") == {"NAT gateways": pytest.approx(0.15), "dashboards": pytest.approx(0.01)}


def test_traffic_is_told_where_it_may_cost() -> None:
    """NAT is spoken of only where there is some."""
    with_nat = bill_of(fixed=(Fixed("NAT gateways", "natGateway", 1),)).notes
    assert any(note.startswith("NAT: $0.045") for note in with_nat)
    assert not any(note.startswith("NAT") for note in bill_of().notes)


def test_a_tier_without_nodes_has_no_lines() -> None:
    """Neither volumes nor metrics of nobody."""
    volume = VolumeMaterial(gib=100, mibps=125, iops=3000)
    tier = replace(TIER, min=0, on_demand_base=0, volumes=(volume,), detailed_monitoring=True)
    assert bill_of(tier).case("min").lines == ()
    assert len(bill_of(tier).case("desired").lines) == 4


def test_where_spot_prices_come_from_is_told() -> None:
    """An assumed share of the on-demand price, until AWS was asked; tracking's two alarms cost, too."""
    assert any("50% of the on-demand price, an assumption" in note for note in bill_of(TIER).notes)
    dated = {"date": "2026-01-01", "source": "AWS"}
    live = table(spot={**dated, "shareOfOnDemand": 0.5, "usdPerHour": {"a.large": 0.4}})
    notes = make_bill(Materials("prod", (TIER,), ()), live).notes
    assert any("at AWS's current spot prices" in note for note in notes)
    assert any("two alarms, $0.2 a month" in note for note in notes)


def test_a_type_without_a_price_ends_the_bill() -> None:
    """Also where it is the last of many, for spot may take it."""
    with pytest.raises(PriceUnknown, match=r"no price for z\.huge"):
        bill_of(replace(TIER, instance_types=("a.large", "z.huge")))


def test_an_item_without_a_price_ends_the_bill() -> None:
    """It names the item and the file to add it to."""
    with pytest.raises(PriceUnknown, match=r"no price for kmsKey"):
        bill_of(fixed=(Fixed("keys", "kmsKey", 1),))
