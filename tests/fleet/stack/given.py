"""Settings that are good, and what is said of those that are not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fleet.errors import SettingsError
from fleet.stack.settings import Settings

GOOD: dict[str, Any] = {
    "goldenfleet:network": {"cidr": "10.0.0.0/16", "zones": 3, "nat": "single"},
    "goldenfleet:edge": {},
    "goldenfleet:tiers": [
        {
            "name": "gateway",
            "role": "gateway",
            "recipe": "gateway",
            "channel": "dev",
            "capacity": {"min": 1, "desired": 2, "max": 4},
            "purchase": {"instanceTypes": ["c7i.large", "c6i.large", "m7i.large"], "onDemandBase": 1},
            "scaling": {},
            "volumes": {},
            "drain": {},
            "boot": {},
        },
        {
            "name": "model",
            "role": "model",
            "recipe": "llama",
            "channel": "dev",
            "engine": "vllm",
            "capacity": {"min": 1, "desired": 2, "max": 4},
            "purchase": {"instanceTypes": ["g6.xlarge", "g5.xlarge", "g6e.xlarge"], "onDemandBase": 1},
            "scaling": {},
            "volumes": {},
            "drain": {},
            "boot": {},
        },
    ],
}
CERTIFICATE = {
    "certificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/abc",
    "domain": "llm.example.com",
}

FITTING = {"vcpus": {"min": 4}, "memoryGib": {"min": 16}, "gpus": {"min": 1, "max": 1}}

REMOVED = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the setting at `path` (dots between levels) set to `value`, or taken out."""
    config = copy.deepcopy(GOOD)
    *parents, last = f"goldenfleet:{path}".split(".")
    level: Any = config
    for parent in parents:
        level = (
            next(tier for tier in level if tier["name"] == parent)
            if isinstance(level, list)
            else level[parent]
        )
    if value is REMOVED:
        del level[last]
    else:
        level[last] = value
    return config


def refusal(config: dict[str, Any], stack: str = "dev") -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(stack, config)
    return str(caught.value)


def tiers(*changes: dict[str, Any]) -> dict[str, Any]:
    """GOOD with these tiers, each the good model tier but for its changes."""
    model = GOOD["goldenfleet:tiers"][1]
    return {**GOOD, "goldenfleet:tiers": [{**model, **change} for change in changes]}
