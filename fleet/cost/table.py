"""The one table of prices: dated, with the source of each figure. The rehearsal's market reads it too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fleet.cost.errors import PriceUnknown, TableUnreadable

STALE_DAYS = 180

_FOLDER = Path(__file__).parent

ItemName = Literal[
    "alarm",
    "compositeAlarm",
    "customMetric",
    "dashboard",
    "gp3Iops",
    "gp3Storage",
    "gp3Throughput",
    "interfaceEndpoint",
    "interfaceEndpointTraffic",
    "kmsKey",
    "lambdaCompute",
    "lambdaRequests",
    "loadBalancer",
    "loadBalancerCapacityUnit",
    "logIngestion",
    "metricPut",
    "natGateway",
    "natTraffic",
    "publicIpv4",
    "trafficOut",
    "volumeInitialization",
    "webAcl",
    "webAclRequests",
    "webAclRule",
]
Usd = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Figure(_Strict):
    usd: Usd
    per: str
    date: date
    source: str = Field(min_length=1)


class OnDemand(_Strict):
    date: date
    source: str = Field(min_length=1)
    usd_per_hour: Mapping[str, Usd]


class Spot(_Strict):
    """A share of the on-demand price, but for the types whose price is known."""

    date: date
    source: str = Field(min_length=1)
    share_of_on_demand: Share
    usd_per_hour: Mapping[str, Usd] = Field(default={})


class PriceTable(_Strict):
    format: Literal[1]
    region: str
    currency: Literal["USD"]
    on_demand: OnDemand
    spot: Spot
    items: Mapping[ItemName, Figure]

    @property
    def oldest(self) -> date:
        """A bill is as old as the oldest figure in it could be."""
        return min(self.on_demand.date, self.spot.date, *(figure.date for figure in self.items.values()))

    def age_days(self, today: date) -> int:
        return (today - self.oldest).days

    def on_demand_price(self, instance_type: str) -> float:
        """US dollars an hour. Raises PriceUnknown."""
        price = self.on_demand.usd_per_hour.get(instance_type)
        if price is None:
            raise PriceUnknown(
                f"there is no price for {instance_type} in the table of {self.region} "
                f"({self.on_demand.date}, fleet/cost/{self.region}.json)",
                "Use a type that it has, add the price there with date and source, or ask AWS by --live.",
            )
        return price

    def spot_price(self, instance_type: str) -> float:
        """US dollars an hour. Raises PriceUnknown."""
        known = self.spot.usd_per_hour.get(instance_type)
        if known is not None:
            return known
        return self.on_demand_price(instance_type) * self.spot.share_of_on_demand

    def item(self, name: ItemName) -> float:
        """US dollars per the item's unit. Raises PriceUnknown."""
        if name not in self.items:
            raise PriceUnknown(
                f"there is no price for {name} in the table of {self.region}",
                f"Add it to fleet/cost/{self.region}.json with date and source.",
            )
        return self.items[name].usd


@cache
def bundled_table(region: str = "us-east-1") -> PriceTable:
    """Raises TableUnreadable for a region that has none."""
    known = sorted(path.stem for path in _FOLDER.glob("*-*-[0-9].json"))
    if region not in known:
        raise TableUnreadable(
            f"there is no table of prices for {region}",
            f"There is one for {', '.join(known)}; add fleet/cost/{region}.json, or ask AWS by --live.",
        )
    return read_table(_FOLDER / f"{region}.json")


def read_table(path: Path) -> PriceTable:
    """Raises TableUnreadable."""
    try:
        return PriceTable.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as exc:
        raise TableUnreadable(f"{path} cannot be read: {exc}", "Correct the table.") from exc
