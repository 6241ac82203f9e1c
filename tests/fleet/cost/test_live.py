"""AWS's own prices: the Pricing API stubbed at its wire, spot prices on moto."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from fleet.cost import PriceSourceFailed, PriceUnknown, bundled_table
from fleet.cost.errors import PriceSourceForbidden
from fleet.cost.live import Sources, hourly_prices, live_table, open_sources

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


def test_a_spot_price_is_the_mean_of_the_newest_in_each_zone(clients: tuple[Sources, Stubber]) -> None:
    """Whatever the order of AWS's answer; a type that no zone has a price of keeps the table's share."""
    sources, stub = clients
    expect(stub, product("2.0"))
    expect(stub, product("1.0"))
    prices = [("a", 1, "0.9"), ("a", 3, "0.2"), ("b", 2, "0.4"), ("a", 2, "0.8")]
    history = [
        {
            "InstanceType": KIND,
            "AvailabilityZone": f"us-east-1{zone}",
            "Timestamp": NOW.replace(hour=hour),
            "SpotPrice": price,
            "ProductDescription": "Linux/UNIX",
        }
        for zone, hour, price in prices
    ]
    with Stubber(sources.ec2) as spot:
        spot.add_response("describe_spot_price_history", {"SpotPriceHistory": history})
        table = live_table(bundled_table(), "us-east-1", ["g5.xlarge", KIND], sources, NOW)
    assert table.spot_price(KIND) == pytest.approx(0.3)
    assert table.spot_price("g5.xlarge") == pytest.approx(2.0 * table.spot.share_of_on_demand)


def test_a_type_that_aws_does_not_sell_is_refused(clients: tuple[Sources, Stubber]) -> None:
    """No product, no price: never the table's in its place."""
    sources, stub = clients
    expect(stub)
    with pytest.raises(PriceUnknown, match=r"AWS sells no g6\.xlarge on demand in us-east-1"):
        live_table(bundled_table(), "us-east-1", [KIND], sources, NOW)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ExpiredTokenException"])
def test_a_refusal_of_aws_is_told_plainly(clients: tuple[Sources, Stubber], code: str) -> None:
    """With AWS's words, the permissions that are needed, and the way without."""
    sources, stub = clients
    stub.add_client_error("get_products", code, "not authorized")
    with pytest.raises(PriceSourceForbidden, match=r"not authorized(.|\n)*pricing:GetProducts(.|\n)*--live"):
        live_table(bundled_table(), "us-east-1", [KIND], sources, NOW)


def test_every_page_of_an_answer_is_read(clients: tuple[Sources, Stubber]) -> None:
    """A product may be on the second one, and the first be empty."""
    sources, stub = clients
    stub.add_response("get_products", {"PriceList": [], "NextToken": "more"})
    expect(stub, product("1.5"))
    assert live_table(bundled_table(), "us-east-1", [KIND], sources, NOW).on_demand_price(KIND) == 1.5


class Throttling(BaseHTTPRequestHandler):
    """Answers every question as AWS does whom too much is asked."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.headers["X-Amz-Target"])
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_throttling_is_waited_out_before_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By botocore's own retries; and what it comes to is no question of permissions."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with HTTPServer(("127.0.0.1", 0), Throttling) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(PriceSourceFailed, match=r"Rate exceeded(.|\n)*Try again later") as caught:
            live_table(bundled_table(), "us-east-1", [KIND], open_sources("us-east-1"), NOW)
        server.shutdown()
    assert not isinstance(caught.value, PriceSourceForbidden)
    assert len(Throttling.asked) == 6
    assert len(waits) == 5


def test_reservations_and_other_units_are_no_hourly_price() -> None:
    """Terms of 0 USD belong to capacity reservations."""
    assert hourly_prices(json.loads(product("0.0000000000", "1.25"))) == [1.25]
    assert hourly_prices(json.loads(product("3.0", unit="Quantity"))) == []
    assert hourly_prices({"terms": {}}) == []
