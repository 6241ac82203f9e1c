"""Today's prices, asked of AWS: the Pricing API for on demand, the spot price history for spot.

Both APIs: AWS Price List API reference, `GetProducts`; EC2 API reference, `DescribeSpotPriceHistory`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import mean
from typing import Any

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from fleet.cost.errors import PriceSourceFailed, PriceSourceForbidden, PriceUnknown
from fleet.cost.table import OnDemand, PriceTable, Spot

PRICING_REGION = "us-east-1"
"""The Pricing API answers in a few regions only, for all of them."""

# A person waits. Both APIs throttle early, and botocore's own retries wait longer each time.
_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 6})

_FORBIDDEN = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)

# In a VPC there are two descriptions for the same price; DescribeSpotPriceHistory wants them by name.
_LINUX = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


@dataclass(frozen=True)
class Sources:
    pricing: BaseClient
    ec2: BaseClient


def open_sources(region: str) -> Sources:
    """Clients with the credentials and endpoints that the environment gives. Raises PriceSourceFailed."""
    try:
        session = boto3.Session(region_name=region)
        pricing = session.client("pricing", region_name=PRICING_REGION, config=_CONFIG)
        return Sources(pricing, session.client("ec2", config=_CONFIG))
    except BotoCoreError as exc:
        raise _failed(exc) from exc


def live_table(
    table: PriceTable, region: str, types: Iterable[str], sources: Sources, now: datetime
) -> PriceTable:
    """`table` with AWS's prices of `types` in `region`; other items keep the table's.

    Raises PriceSourceFailed, and PriceUnknown for a type that AWS does not sell there.
    """
    wanted = sorted(set(types))
    on_demand = OnDemand.model_validate(
        {
            "date": now.date(),
            "source": "AWS Pricing API",
            "usdPerHour": {kind: _on_demand(sources.pricing, region, kind) for kind in wanted},
        }
    )
    spot = Spot.model_validate(
        {
            "date": now.date(),
            "source": "AWS DescribeSpotPriceHistory, mean over the zones",
            "shareOfOnDemand": table.spot.share_of_on_demand,
            "usdPerHour": _spot(sources.ec2, wanted, now),
        }
    )
    return table.model_copy(update={"region": region, "on_demand": on_demand, "spot": spot})


def _on_demand(pricing: Any, region: str, instance_type: str) -> float:
    attributes = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    filters = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in attributes.items()]
    request = {"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters}
    try:
        pages = list(pricing.get_paginator("get_products").paginate(**request))
    except (BotoCoreError, ClientError) as exc:
        raise _failed(exc) from exc
    listed = (text for page in pages for text in page["PriceList"])
    prices = [price for text in listed for price in hourly_prices(json.loads(text))]
    if not prices:
        raise PriceUnknown(
            f"AWS sells no {instance_type} on demand in {region}", "Correct the type or the region."
        )
    return max(prices)


def hourly_prices(product: Mapping[str, Any]) -> list[float]:
    """US dollars an hour of each on-demand term of one product; free terms are reservations' shadows."""
    terms = product.get("terms", {}).get("OnDemand", {}).values()
    dimensions = [dimension for term in terms for dimension in term["priceDimensions"].values()]
    prices = [float(d["pricePerUnit"].get("USD", 0)) for d in dimensions if d["unit"] == "Hrs"]
    return [price for price in prices if price > 0]


def _spot(ec2: Any, types: Sequence[str], now: datetime) -> dict[str, float]:
    """Mean over the zones of the newest price in each; a type without any keeps the table's share."""
    request = {"InstanceTypes": list(types), "ProductDescriptions": list(_LINUX), "StartTime": now}
    try:
        pages = list(ec2.get_paginator("describe_spot_price_history").paginate(**request))
    except (BotoCoreError, ClientError) as exc:
        raise _failed(exc) from exc
    newest: dict[tuple[str, str], tuple[datetime, float]] = {}
    for entry in (entry for page in pages for entry in page["SpotPriceHistory"]):
        pool = entry["InstanceType"], entry["AvailabilityZone"]
        known = newest.get(pool)
        if known is None or known[0] < entry["Timestamp"]:
            newest[pool] = entry["Timestamp"], float(entry["SpotPrice"])
    by_type: dict[str, list[float]] = {}
    for (kind, _zone), (_at, price) in newest.items():
        by_type.setdefault(kind, []).append(price)
    return {kind: mean(prices) for kind, prices in sorted(by_type.items())}


def _failed(exc: Exception) -> PriceSourceFailed:
    lacking = isinstance(exc, NoCredentialsError | PartialCredentialsError)
    code = exc.response["Error"]["Code"] if isinstance(exc, ClientError) else ""
    if lacking or code in _FORBIDDEN:
        return PriceSourceForbidden(
            f"AWS may not tell its prices: {exc}",
            "Use valid credentials that are allowed pricing:GetProducts and ec2:DescribeSpotPriceHistory, or "
            "leave --live out for the dated table.",
        )
    return PriceSourceFailed(
        f"AWS did not tell its prices: {exc}",
        "Try again later, check the network, or leave --live out for the dated table.",
    )
