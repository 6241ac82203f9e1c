"""AWS's own prices: the Pricing API stubbed at its wire, spot prices on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from fleet.cost import PriceSourceFailed, PriceUnknown, bundled_table
from fleet.cost.live import Sources, hourly_prices, live_table

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KIND = "g6.xlarge"


def product(*prices: str, unit: str = "Hrs") -> str:
    """One entry of a PriceList, as GetProducts writes it."""
    dimensions = {str(n): {"unit": unit, "pricePerUnit": {"USD": usd}} for n, usd in enumerate(prices)}
    return json.dumps({"terms": {"OnDemand": {"X.JRTCKXETXF": {"priceDimensions": dimensions}}}})


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sources, Stubber]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        pricing: Any = boto3.client("pricing", region_name="us-east-1")
        with Stubber(pricing) as stub:
            yield Sources(pricing, boto3.client("ec2", region_name="us-east-1")), stub


def expect(stub: Stubber, *products: str) -> None:
    stub.add_response("get_products", {"FormatVersion": "aws_v1", "PriceList": list(products)})


def test_both_prices_are_asked_of_aws(clients: tuple[Sources, Stubber]) -> None:
    """They replace the table's, under today's date; other items keep theirs."""
    sources, stub = clients
    expect(stub, product("0.9000000000"))
    table = live_table(bundled_table(), "us-east-1", [KIND, KIND], sources, NOW)
    assert table.on_demand_price(KIND) == 0.9
    assert table.spot_price(KIND) == 0.00001  # what moto says of every type
    assert table.on_demand.date == table.spot.date == NOW.date()
    assert table.items == bundled_table().items


def test_the_request_names_one_product(clients: tuple[Sources, Stubber]) -> None:
    """Linux on shared hardware, nothing preinstalled: without a filter there are dozens of prices."""
    sources, stub = clients
    wanted = {
        "instanceType": KIND,
        "regionCode": "eu-west-1",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    filters = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in wanted.items()]
    request = {"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters}
    stub.add_response("get_products", {"PriceList": [product("1.0")]}, request)
    assert live_table(bundled_table(), "eu-west-1", [KIND], sources, NOW).region == "eu-west-1"


def test_a_type_that_aws_does_not_sell_is_refused(clients: tuple[Sources, Stubber]) -> None:
    """No product, no price: never the table's in its place."""
    sources, stub = clients
    expect(stub)
    with pytest.raises(PriceUnknown, match=r"AWS sells no g6\.xlarge on demand in us-east-1"):
        live_table(bundled_table(), "us-east-1", [KIND], sources, NOW)


def test_a_refusal_of_aws_is_told_plainly(clients: tuple[Sources, Stubber]) -> None:
    """With AWS's words, the permissions that are needed, and the way without."""
    sources, stub = clients
    stub.add_client_error("get_products", "AccessDeniedException", "not authorized")
    with pytest.raises(PriceSourceFailed, match=r"not authorized(.|\n)*pricing:GetProducts(.|\n)*--live"):
        live_table(bundled_table(), "us-east-1", [KIND], sources, NOW)


def test_reservations_and_other_units_are_no_hourly_price() -> None:
    """Terms of 0 USD belong to capacity reservations."""
    assert hourly_prices(json.loads(product("0.0000000000", "1.25"))) == [1.25]
    assert hourly_prices(json.loads(product("3.0", unit="Quantity"))) == []
    assert hourly_prices({"terms": {}}) == []
