"""The one table of prices."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.cost import PriceUnknown, TableUnreadable, bundled_table
from fleet.cost.table import STALE_DAYS, read_table
from fleet.cost.words import warning
from images.instance_types import TYPES


def test_every_figure_has_a_date_and_a_source() -> None:
    """A figure that nobody can check is not in the table."""
    table = bundled_table()
    figures = [table.on_demand, table.spot, *table.items.values()]
    assert all(figure.source and figure.date.year >= 2025 for figure in figures)
    assert table.oldest == min(figure.date for figure in figures)


def test_bakes_and_bills_agree_on_prices() -> None:
    """Images plan with prices of their own; they must not drift from the table."""
    table = bundled_table()
    priced = {kind.name: kind.usd_per_hour for kind in TYPES.values() if kind.usd_per_hour}
    assert priced
    for name, usd in priced.items():
        assert table.on_demand_price(name) == pytest.approx(usd, abs=1e-4)


def test_an_unknown_type_names_itself_and_the_table() -> None:
    """Nothing is guessed from a neighbour's price."""
    with pytest.raises(PriceUnknown, match=r"no price for g9\.xlarge .*fleet/cost/us-east-1\.json"):
        bundled_table().spot_price("g9.xlarge")


def test_a_region_without_a_table_is_refused() -> None:
    """It says which regions there are, and how to ask AWS."""
    with pytest.raises(TableUnreadable, match=r"table of prices for eu-west-9(.|\n)*us-east-1(.|\n)*--live"):
        bundled_table("eu-west-9")


def test_a_table_with_a_key_too_many_is_refused(tmp_path: Path) -> None:
    """A misspelt item would be priced nowhere."""
    path = tmp_path / "prices.json"
    document = json.loads(bundled_table().model_dump_json(by_alias=True))
    path.write_text(json.dumps({**document, "itmes": {}}))
    with pytest.raises(TableUnreadable, match="itmes"):
        read_table(path)


def test_old_prices_are_warned_of() -> None:
    """By the oldest figure, from the 181st day on."""
    table = bundled_table()
    assert warning(table, table.oldest + timedelta(days=STALE_DAYS)) is None
    told = warning(table, table.oldest + timedelta(days=STALE_DAYS + 1))
    assert told is not None
    assert f"{STALE_DAYS + 1} days old" in told
    assert table.oldest.isoformat() in told
