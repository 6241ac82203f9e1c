"""A bill as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from fleet.cost.bill import HOURS_A_MONTH, Bill, Case
from fleet.cost.table import STALE_DAYS, PriceTable


def as_json(bill: Bill, table: PriceTable, today: date) -> dict[str, Any]:
    return {
        "stack": bill.stack,
        "currency": table.currency,
        "region": table.region,
        "prices": {
            "oldest": table.oldest.isoformat(),
            "age_days": table.age_days(today),
            "stale": is_stale(table, today),
            "on_demand": {"date": table.on_demand.date.isoformat(), "source": table.on_demand.source},
            "spot": {"date": table.spot.date.isoformat(), "source": table.spot.source},
        },
        "cases": {case.name.replace(" ", "_"): _case(case) for case in bill.cases},
        "saved_percent": round(bill.saved_percent, 1),
        "usd_per_launch": {tier: round(usd, 4) for tier, usd in bill.launches.items()},
        "fitting": {tier: asdict(each) for tier, each in bill.fitting.items()},
        "notes": list(bill.notes),
    }


def describe(bill: Bill, table: PriceTable, today: date) -> str:
    return "\n".join(_lines(bill, table, today))


def is_stale(table: PriceTable, today: date) -> bool:
    return table.age_days(today) > STALE_DAYS


def warning(table: PriceTable, today: date) -> str | None:
    """What to say of a table too old to go by, or None."""
    if not is_stale(table, today):
        return None
    return (
        f"prices are up to {table.age_days(today)} days old: the oldest figure of the table is of "
        f"{table.oldest}. Ask AWS by --live, or renew fleet/cost/{table.region}.json."
    )


def _case(case: Case) -> dict[str, Any]:
    return {
        "usd_per_hour": round(case.usd_per_hour, 4),
        "usd_per_month": round(case.usd_per_month, 2),
        "by_tier": _rounded(case.by("tier")),
        "by_option": _rounded(case.by("option")),
        "lines": [asdict(line) for line in case.lines],
    }


def _rounded(totals: Mapping[str, float]) -> dict[str, float]:
    return {name: round(usd, 4) for name, usd in totals.items()}


def _lines(bill: Bill, table: PriceTable, today: date) -> Iterator[str]:
    age = table.age_days(today)
    yield (
        f"Stack {bill.stack}, {table.region}: prices of {table.on_demand.date} (on demand), "
        f"{table.spot.date} (spot), the rest back to {table.oldest}; {age} days old at most."
    )
    yield ""
    yield f"{'at desired':42}{'count':>8}{'USD/hour':>11}{'USD/month':>12}"
    for line in bill.case("desired").lines:
        name = f"{line.tier:12} {line.what}{'' if line.option == '-' else ', ' + line.option}"
        hourly = line.usd_per_hour
        yield f"{name:42}{line.count:>8.4g}{hourly:>11.4f}{hourly * HOURS_A_MONTH:>12.2f}"
    yield ""
    yield f"{'in all':50}{'USD/hour':>11}{'USD/month':>12}"
    for case in bill.cases:
        yield f"{_CASES[case.name]:50}{case.usd_per_hour:>11.4f}{case.usd_per_month:>12.2f}"
    yield f"saved by spot at desired: {bill.saved_percent:.1f}%"
    for tier, usd in bill.launches.items():
        yield f"each launch of a {tier} node: {usd:.4f} USD for its volumes' initialization rate"
    yield ""
    yield from bill.notes


_CASES = {
    "min": "at min",
    "desired": "at desired",
    "max": "at max",
    "worst": "worst case: at max, all on demand, dearest type",
    "all on demand": "at desired, were all on demand",
}
