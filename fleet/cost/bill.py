"""A bill from materials and prices. Pure; US dollars an hour, before tax and before traffic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

from fleet.cost.materials import Fixed, Materials, TierMaterials, VolumeMaterial
from fleet.cost.specs import ON_DEMAND_PROTECTION_PERCENT, SPOT_PROTECTION_PERCENT, protected
from fleet.cost.table import PriceTable

HOURS_A_MONTH = 730
"""AWS's own calculators count so."""

Option = Literal["on-demand", "spot", "-"]
CaseName = Literal["min", "desired", "max", "worst", "all on demand"]

_FREE_IOPS = 3000
_FREE_MIBPS = 125
_INITIALIZATION_MIBPS = 300
_DETAILED_METRICS = 7
"""EC2 sends so many metrics a minute for an instance, and CloudWatch charges them as custom ones."""


@dataclass(frozen=True)
class Line:
    tier: str
    """`shared` for what no single tier owns."""
    what: str
    option: Option
    count: float
    usd_per_hour: float
    """Of all `count` together."""


@dataclass(frozen=True)
class Case:
    name: CaseName
    lines: tuple[Line, ...]

    @property
    def usd_per_hour(self) -> float:
        return sum(line.usd_per_hour for line in self.lines)

    @property
    def usd_per_month(self) -> float:
        return self.usd_per_hour * HOURS_A_MONTH

    def by(self, key: Literal["tier", "option", "what"]) -> Mapping[str, float]:
        """US dollars an hour for each value of a line's field, in the lines' order."""
        totals: dict[str, float] = {}
        for line in self.lines:
            name = str(getattr(line, key))
            totals[name] = totals.get(name, 0.0) + line.usd_per_hour
        return totals


@dataclass(frozen=True)
class Fitting:
    """Types of the table that meet a tier's requirements; US dollars an hour on demand."""

    types: int
    cheapest: str
    cheapest_usd: float
    dearest: str
    dearest_usd: float


@dataclass(frozen=True)
class Bill:
    stack: str
    cases: tuple[Case, ...]
    launches: Mapping[str, float]
    """Tier -> US dollars for each launch of a node, where its volumes are initialised at a rate."""
    notes: tuple[str, ...]
    fitting: Mapping[str, Fitting] = field(default_factory=dict)
    """Tier that buys by requirements -> the types that meet them."""

    def case(self, name: CaseName) -> Case:
        return next(case for case in self.cases if case.name == name)

    @property
    def saved_percent(self) -> float:
        """Of what the desired nodes would cost if all were on demand."""
        full = self.case("all on demand").usd_per_hour
        return 100 * (1 - self.case("desired").usd_per_hour / full) if full else 0.0


def make_bill(materials: Materials, table: PriceTable) -> Bill:
    """Raises PriceUnknown, which names the type and the table."""
    cases = (
        Case("min", tuple(_lines(materials, table, "min"))),
        Case("desired", tuple(_lines(materials, table, "desired"))),
        Case("max", tuple(_lines(materials, table, "max"))),
        Case("worst", tuple(_lines(materials, table, "worst"))),
        Case("all on demand", tuple(_lines(materials, table, "all on demand"))),
    )
    launches = {tier.name: _per_launch(tier, table) for tier in materials.tiers}
    charged = {name: usd for name, usd in launches.items() if usd}
    fitting = {tier.name: _fitting(tier, table) for tier in materials.tiers if tier.by_requirements}
    return Bill(materials.stack, cases, charged, tuple(_notes(materials, table, fitting)), fitting)


def expected_prices(tier: TierMaterials, table: PriceTable) -> tuple[float, float]:
    """US dollars an hour of an on-demand and of a spot unit of the tier. Raises PriceUnknown."""
    likely = _likely_spot(tier, table)
    return _first(tier, table), mean(table.spot_price(kind) / tier.weight(kind) for kind in likely)


def on_demand_units(units: int, base: int, percent: int) -> int:
    """Of `units`: the base, and the share above it rounded up, as Auto Scaling does."""
    base = min(base, units)
    return base + math.ceil((units - base) * percent / 100)


def _lines(materials: Materials, table: PriceTable, case: CaseName) -> Iterator[Line]:
    for tier in materials.tiers:
        yield from _tier_lines(tier, table, case)
    yield from (_fixed_line(fixed, table) for fixed in materials.fixed)


def _tier_lines(tier: TierMaterials, table: PriceTable, case: CaseName) -> Iterator[Line]:
    on_demand, spot = _units(tier, case)
    each = _dearest(tier, table) if case == "worst" else _first(tier, table)
    nodes = 0.0  # of which some are parts, where types have weights
    if on_demand:
        count = on_demand / tier.weight(tier.instance_types[0])
        nodes += count
        yield Line(tier.name, "instances", "on-demand", count, on_demand * each)
    if spot:
        likely = _likely_spot(tier, table)
        count = spot * mean(1 / tier.weight(kind) for kind in likely)
        nodes += count
        yield Line(tier.name, "instances", "spot", count, spot * expected_prices(tier, table)[1])
    if not nodes:
        return
    if tier.volumes:
        per_month = sum(_volume(volume, table) for volume in tier.volumes)
        yield Line(tier.name, "volumes", "-", nodes * len(tier.volumes), nodes * per_month / HOURS_A_MONTH)
    if tier.detailed_monitoring:
        metrics = nodes * _DETAILED_METRICS
        usd = metrics * table.item("customMetric") / HOURS_A_MONTH
        yield Line(tier.name, "detailed monitoring", "-", metrics, usd)


def _units(tier: TierMaterials, case: CaseName) -> tuple[int, int]:
    """On demand, and spot. In the worst case spot is dry, and all of max falls back to on demand."""
    if case == "worst":
        return tier.max, 0
    if case == "all on demand":
        return tier.desired, 0
    units = {"min": tier.min, "desired": tier.desired, "max": tier.max}[case]
    on_demand = on_demand_units(units, tier.on_demand_base, tier.on_demand_percent)
    return on_demand, units - on_demand


def _first(tier: TierMaterials, table: PriceTable) -> float:
    """On demand takes the types in their order (`prioritized`), so that it is the first in general; by
    requirements it takes the cheapest (`lowest-price`).
    """
    kind = tier.instance_types[0]
    if tier.by_requirements:
        kind = min(tier.instance_types, key=table.on_demand_price)
    return table.on_demand_price(kind) / tier.weight(kind)


def _dearest(tier: TierMaterials, table: PriceTable) -> float:
    """By requirements AWS leaves costly types out for on demand."""
    kinds = tier.instance_types
    if tier.by_requirements:
        kinds = protected({kind: table.on_demand_price(kind) for kind in kinds})
    return max(table.on_demand_price(kind) / tier.weight(kind) for kind in kinds)


def _fitting(tier: TierMaterials, table: PriceTable) -> Fitting:
    by_price = sorted(tier.instance_types, key=lambda kind: (table.on_demand_price(kind), kind))
    cheapest, dearest = by_price[0], by_price[-1]
    return Fitting(
        len(by_price), cheapest, table.on_demand_price(cheapest), dearest, table.on_demand_price(dearest)
    )


def _likely_spot(tier: TierMaterials, table: PriceTable) -> list[str]:
    """The cheaper half of the types: price-capacity-optimized takes the cheap ones among the deep pools, and
    how deep each is nobody can say beforehand.
    """
    kinds = tier.instance_types
    if tier.by_requirements:
        kinds = protected({kind: table.on_demand_price(kind) for kind in kinds}, SPOT_PROTECTION_PERCENT)
    by_price = sorted(kinds, key=lambda kind: table.spot_price(kind) / tier.weight(kind))
    return by_price[: math.ceil(len(by_price) / 2)]


def _volume(volume: VolumeMaterial, table: PriceTable) -> float:
    """US dollars a month."""
    return (
        volume.gib * table.item("gp3Storage")
        + max(0, volume.iops - _FREE_IOPS) * table.item("gp3Iops")
        + max(0, volume.mibps - _FREE_MIBPS) * table.item("gp3Throughput")
    )


def _per_launch(tier: TierMaterials, table: PriceTable) -> float:
    """The rate's charge comes once for each volume made from a snapshot."""
    per_gib = table.item("volumeInitialization") / _INITIALIZATION_MIBPS
    return sum(volume.gib * volume.initialization_mibps * per_gib for volume in tier.volumes)


def _fixed_line(fixed: Fixed, table: PriceTable) -> Line:
    usd = fixed.count * table.item(fixed.item)
    if table.items[fixed.item].per.startswith("month"):
        usd /= HOURS_A_MONTH
    return Line(fixed.tier, fixed.what, "-", fixed.count, usd)


def _notes(materials: Materials, table: PriceTable, fitting: Mapping[str, Fitting]) -> Iterable[str]:
    share = table.spot.share_of_on_demand
    known = [k for tier in materials.tiers for k in tier.instance_types if k in table.spot.usd_per_hour]
    spot = "AWS's current spot prices" if known else f"{share:.0%} of the on-demand price, an assumption"
    yield f"Spot is the mean of the cheaper half of a tier's types, at {spot}."
    yield "On demand is a tier's first type."
    for name, each in fitting.items():
        yield (
            f"Tier {name} buys by requirements: {each.types} types of the table fit (x86_64), from "
            f"{each.cheapest} at ${each.cheapest_usd:g} to {each.dearest} at ${each.dearest_usd:g} an hour. "
            f"On demand takes the cheapest, and none over {ON_DEMAND_PROTECTION_PERCENT}% above it; spot "
            f"here none over {SPOT_PROTECTION_PERCENT}%."
        )
    yield "Worst is every tier at max, all on demand because spot is dry, on its dearest type."
    if any(fixed.item == "natGateway" for fixed in materials.fixed):
        yield f"NAT: ${table.item('natTraffic'):g} for each GB that goes through it comes on top."
    if any(fixed.item == "interfaceEndpoint" for fixed in materials.fixed):
        yield f"Endpoints: ${table.item('interfaceEndpointTraffic'):g} for each GB comes on top."
    if any(fixed.item == "webAcl" for fixed in materials.fixed):
        yield f"Web firewall: ${table.item('webAclRequests'):g} for each million requests comes on top."
    yield (
        f"Load balancers: ${table.item('loadBalancerCapacityUnit'):g} an hour for each capacity unit in use "
        "(25 new connections a second, 3000 active ones, or 1 GB an hour) comes on top."
    )
    yield "Control: a look each minute is counted; notices, and polls of their queue, are not."
    tracking = 2 * table.item("alarm")
    yield f"Scaling: AWS makes two alarms, ${tracking:g} a month, for each target tracking policy."
    logs, out = table.item("logIngestion"), table.item("trafficOut")
    yield f"Logs: ${logs:g} for each GB, and traffic to the internet: ${out:g} for each GB, come on top."
