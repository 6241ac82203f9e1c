"""Overrides of a mixed-instances policy: types with weights, or attributes that types must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from moto.autoscaling.exceptions import ValidationError

from fleet.cost.specs import (
    ANY,
    SPOT_PROTECTION_PERCENT,
    Architecture,
    Bounds,
    Requirements,
    matching,
    protected,
)
from fleet.rehearsal.market import on_demand_price

_KNOWN = frozenset({"InstanceType", "WeightedCapacity", "InstanceRequirements"})
# What a stack asks for; whatever else there is would be accepted and not looked at.
_ATTRIBUTES = frozenset(
    {
        "AcceleratorCount",
        "AcceleratorManufacturers",
        "AcceleratorTotalMemoryMiB",
        "AcceleratorTypes",
        "BareMetal",
        "BurstablePerformance",
        "ExcludedInstanceTypes",
        "InstanceGenerations",
        "LocalStorage",
        "MaxSpotPriceAsPercentageOfOptimalOnDemandPrice",
        "MemoryMiB",
        "VCpuCount",
    }
)
_FIXED: Mapping[str, Any] = {
    "AcceleratorManufacturers": ["nvidia"],
    "AcceleratorTypes": ["gpu"],
    "BareMetal": "excluded",
    "BurstablePerformance": "excluded",
    "InstanceGenerations": ["current"],
}


class Fitting(NamedTuple):
    """Types that fit, less those that are too costly to be taken."""

    on_demand: tuple[str, ...]
    spot: tuple[str, ...]


def require_overrides(overrides: Sequence[Mapping[str, Any]], on_demand_strategy: str | None) -> None:
    """Raise AWS's ValidationError for what cannot be; ours for what this cloud does not look at."""
    for override in overrides:
        _require_known(override)
    weighted = [o for o in overrides if o.get("WeightedCapacity") is not None]
    if weighted and len(weighted) != len(overrides):
        raise ValidationError(
            "If you specify weights for one instance type, you must specify weights for all instance types."
        )
    for override in weighted:
        if not 1 <= int(override["WeightedCapacity"]) <= 999:
            raise ValidationError("WeightedCapacity must be in the range of 1 to 999.")
    chosen = [o for o in overrides if o.get("InstanceRequirements")]
    if not chosen:
        return
    if len(chosen) != len(overrides) or any(o.get("InstanceType") for o in chosen):
        raise ValidationError("If you specify InstanceRequirements, you can't specify InstanceType.")
    if on_demand_strategy == "prioritized":
        raise ValidationError("The prioritized allocation strategy cannot be used with InstanceRequirements.")


def _require_known(override: Mapping[str, Any]) -> None:
    asked = override.get("InstanceRequirements") or {}
    unknown = [*(set(override) - _KNOWN), *(set(asked) - _ATTRIBUTES)]
    unknown += [key for key, value in _FIXED.items() if key in asked and asked[key] != value]
    if asked and override.get("WeightedCapacity"):
        unknown.append("WeightedCapacity beside InstanceRequirements")
    if unknown:
        raise ValidationError(f"The emulated cloud has no such {', '.join(sorted(unknown))} in an override.")
    if asked and not {"VCpuCount", "MemoryMiB"} <= set(asked):
        raise ValidationError("InstanceRequirements must have VCpuCount and MemoryMiB.")


def fitting_types(chosen: Sequence[Mapping[str, Any]], architecture: str) -> Fitting:
    """Types of the table that meet any of the requirements."""
    on_demand: list[str] = []
    spot: list[str] = []
    for asked in chosen:
        kinds = matching(_requirements(asked, cast("Architecture", architecture)))
        prices = {kind: on_demand_price(kind) for kind in kinds}
        if prices:
            on_demand += protected(prices)
            spot += protected(prices, _spot_percent(asked))
    return Fitting(tuple(dict.fromkeys(on_demand)), tuple(dict.fromkeys(spot)))


def _spot_percent(asked: Mapping[str, Any]) -> int:
    """A share of the on-demand price, which is what the market draws spot prices from."""
    given = asked.get("MaxSpotPriceAsPercentageOfOptimalOnDemandPrice")
    return SPOT_PROTECTION_PERCENT if given is None else max(0, int(given) - 100)


def _requirements(asked: Mapping[str, Any], architecture: Architecture) -> Requirements:
    return Requirements(
        vcpus=_bounds(asked["VCpuCount"]),
        memory_mib=_bounds(asked["MemoryMiB"]),
        architecture=architecture,
        accelerators=_bounds(asked.get("AcceleratorCount")),
        nvidia="AcceleratorManufacturers" in asked,
        gpu_memory_mib=_bounds(asked.get("AcceleratorTotalMemoryMiB")),
        disks=asked.get("LocalStorage") or "included",
        excluded=tuple(asked.get("ExcludedInstanceTypes") or ()),
    )


def _bounds(given: Mapping[str, Any] | None) -> Bounds:
    if not given:
        return ANY
    most = given.get("Max")
    return Bounds(int(given.get("Min") or 0), None if most is None else int(most))
