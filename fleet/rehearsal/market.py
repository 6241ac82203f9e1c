"""The spot and on-demand market of a rehearsal: what a type costs where, and which pools have capacity.

A pool is an instance type in an Availability Zone. Everything is derived from the seed, so that two
rehearsals with one seed buy the same instances at the same prices.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fleet.cost.table import bundled_table

Option = Literal["on-demand", "spot"]

_SPOT_SHARE = (0.30, 0.40)  # of the on-demand price
_SPOT_CAPACITY = (8, 40)  # instances a pool can give at once
_ON_DEMAND_CAPACITY = 1000


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
    """US dollars an hour, from the table that `goldenfleet cost` reads; raises PriceUnknown."""
    return bundled_table().on_demand_price(instance_type)


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
