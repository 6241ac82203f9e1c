"""What a tier's group carries in its tags for fallback: the rules, and what the last decision left.

A group's tags outlive every run of the handler, come with the call that describes the group, and go with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fleet.control.fallback import Memory, Rules

RULES_TAG: Final = "goldenfleet:fallback"
"""Written by the Pulumi program, in seconds of AWS's time."""

MEMORY_TAG: Final = "goldenfleet:fallback-state"
"""Written by the handler alone, in unix seconds."""


_ROLLOUT_PATIENCE_S: Final = 300.0
"""Spot is back in minutes, or not for long; a rollout that is cancelled has to be begun again by a person."""


def read_rules(tags: Mapping[str, str], time_scale: float = 1.0) -> Rules | None:
    """None where the tier has none, or none that can be read: then nothing of it is touched."""
    told = _read(tags, RULES_TAG)
    try:
        return Rules(
            base=int(told["base"]),
            most=int(told["most"]),
            after_s=float(told["after"]) * time_scale,
            hold_s=float(told["hold"]) * time_scale,
            longest_hold_s=float(told["longestHold"]) * time_scale,
            enabled=told["enabled"] is True,
            rollout_patience_s=max(_ROLLOUT_PATIENCE_S, 10 * float(told["after"])) * time_scale,
        )
    except (KeyError, TypeError, ValueError):
        return None


def read_memory(tags: Mapping[str, str]) -> Memory | None:
    """None where nothing was decided yet, or somebody wrote what cannot be read."""
    told = _read(tags, MEMORY_TAG)
    try:
        short = told["shortSince"]
        return Memory(
            base=int(told["base"]),
            at=float(told["at"]),
            lowered=int(told["lowered"]),
            failed=int(told["failed"]),
            short_since=None if short is None else float(short),
        )
    except (KeyError, TypeError, ValueError):
        return None


def write_memory(memory: Memory) -> str:
    short = None if memory.short_since is None else round(memory.short_since, 3)
    told = {"base": memory.base, "at": round(memory.at, 3), "lowered": memory.lowered}
    return json.dumps({**told, "failed": memory.failed, "shortSince": short}, separators=(",", ":"))


def _read(tags: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        told = json.loads(tags.get(key, ""))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
