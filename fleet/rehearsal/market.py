"""The spot and on-demand market of a rehearsal: what a type costs where, and which pools have capacity.

A pool is an instance type in an Availability Zone. Everything is derived from the seed, so that two
rehearsals with one seed buy the same instances at the same prices.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fleet.errors import GoldenfleetError

Option = Literal["on-demand", "spot"]

# US dollars an hour: AWS's public on-demand prices, Linux, us-east-1, as of 2025-06. AWS publishes them at
# https://aws.amazon.com/ec2/pricing/on-demand/
ON_DEMAND_PRICES = {
    "t3.medium": 0.0416,
    "t3.large": 0.0832,
    "t3.xlarge": 0.1664,
    "c5.large": 0.085,
    "c5.xlarge": 0.17,
    "c5.2xlarge": 0.34,
    "c6a.large": 0.0765,
    "c6a.xlarge": 0.153,
    "c6a.2xlarge": 0.306,
    "c6i.large": 0.085,
    "c6i.xlarge": 0.17,
    "c6i.2xlarge": 0.34,
    "c6i.4xlarge": 0.68,
    "c6g.large": 0.068,
    "c6g.xlarge": 0.136,
    "c7a.large": 0.10264,
    "c7a.xlarge": 0.20528,
    "c7a.2xlarge": 0.41056,
    "c7g.large": 0.0725,
    "c7g.xlarge": 0.145,
    "c7i.large": 0.08925,
    "c7i.xlarge": 0.1785,
    "c7i.2xlarge": 0.357,
    "c7i.4xlarge": 0.714,
    "m1.small": 0.044,
    "m5.large": 0.096,
    "m5.xlarge": 0.192,
    "m5.2xlarge": 0.384,
    "m6a.large": 0.0864,
    "m6a.xlarge": 0.1728,
    "m6a.2xlarge": 0.3456,
    "m6i.large": 0.096,
    "m6i.xlarge": 0.192,
    "m6i.2xlarge": 0.384,
    "m7a.large": 0.11592,
    "m7a.xlarge": 0.23184,
    "m7i.large": 0.1008,
    "m7i.xlarge": 0.2016,
    "m7i.2xlarge": 0.4032,
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g5.4xlarge": 1.624,
    "g5.12xlarge": 5.672,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6.4xlarge": 1.3232,
    "g6.12xlarge": 4.6016,
    "g6e.xlarge": 1.861,
    "g6e.2xlarge": 2.24208,
    "g6e.4xlarge": 3.00424,
}
_SPOT_SHARE = (0.30, 0.40)  # of the on-demand price
_SPOT_CAPACITY = (8, 40)  # instances a pool can give at once
_ON_DEMAND_CAPACITY = 1000


class PriceUnknown(GoldenfleetError):
    """The market has no price for an instance type."""


@dataclass(frozen=True)
class Pool:
    instance_type: str
    availability_zone: str


@dataclass(frozen=True)
class Offer:
    """A pool that can give one more instance now."""

    pool: Pool
    price: float  # US dollars an hour
    capacity: int


class Market:
    """Capacity and prices of every pool. Not safe for threads: its owner holds a lock."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._used: dict[tuple[Pool, Option], int] = {}
        self._dry: set[tuple[Pool, Option]] = set()
        self._all_dry: set[Option] = set()

    def price(self, pool: Pool, option: Option) -> float:
        """US dollars an hour; raises PriceUnknown."""
        full = on_demand_price(pool.instance_type)
        if option == "on-demand":
            return full
        return round(full * self._draw(pool, "price").uniform(*_SPOT_SHARE), 5)

    def capacity(self, pool: Pool, option: Option) -> int:
        """How many more instances the pool can give."""
        if option in self._all_dry or (pool, option) in self._dry:
            return 0
        whole = (
            _ON_DEMAND_CAPACITY
            if option == "on-demand"
            else self._draw(pool, "capacity").randint(*_SPOT_CAPACITY)
        )
        return max(0, whole - self._used.get((pool, option), 0))

    def dry(self, pool: Pool | None = None, option: Option = "spot") -> None:
        """The pool (or, with none named, every pool) can give nothing until `refill`."""
        if pool is None:
            self._all_dry.add(option)
        else:
            self._dry.add((pool, option))

    def refill(self, pool: Pool | None = None, option: Option = "spot") -> None:
        """Undo `dry` for the pool, or for every pool."""
        if pool is not None:
            self._dry.discard((pool, option))
            return
        self._all_dry.discard(option)
        self._dry = {entry for entry in self._dry if entry[1] != option}

    def take(self, pool: Pool, option: Option) -> None:
        self._used[pool, option] = self._used.get((pool, option), 0) + 1

    def give_back(self, pool: Pool, option: Option) -> None:
        self._used[pool, option] = max(0, self._used.get((pool, option), 0) - 1)

    def offers(self, pools: Sequence[Pool], option: Option) -> list[Offer]:
        """The pools that can give one more instance, in the order given."""
        return [
            Offer(pool, self.price(pool, option), capacity)
            for pool in pools
            if (capacity := self.capacity(pool, option)) > 0
        ]

    def _draw(self, pool: Pool, what: str) -> random.Random:
        return random.Random(f"{self._seed}/{what}/{pool.instance_type}/{pool.availability_zone}")


def on_demand_price(instance_type: str) -> float:
    """US dollars an hour; raises PriceUnknown."""
    if instance_type not in ON_DEMAND_PRICES:
        raise PriceUnknown(
            f"the rehearsal's market has no price for {instance_type}",
            "use a type it knows, or add its price to ON_DEMAND_PRICES in fleet/rehearsal/market.py",
        )
    return ON_DEMAND_PRICES[instance_type]


def choose(offers: Sequence[Offer], strategy: str) -> Offer | None:
    """The offer that an allocation strategy of AWS takes; None where nothing is offered.

    `prioritized` takes the first; `lowest-price` the cheapest; `capacity-optimized` the deepest;
    `price-capacity-optimized` the cheapest among the pools with at least half the deepest one's capacity.
    """
    if not offers:
        return None
    if strategy == "lowest-price":
        return min(offers, key=lambda offer: offer.price)
    if strategy.startswith("capacity-optimized"):
        return max(offers, key=lambda offer: offer.capacity)
    if strategy == "price-capacity-optimized":
        deepest = max(offer.capacity for offer in offers)
        return min((o for o in offers if o.capacity * 2 >= deepest), key=lambda offer: offer.price)
    return offers[0]
