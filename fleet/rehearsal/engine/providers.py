"""What a provider gives to every resource that it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.rehearsal.resources import UNKNOWN, Handler
from fleet.rehearsal.resources.errors import ArgumentRefusedError, ArgumentUnmappedError


@dataclass(frozen=True)
class Defaults:
    tags: Mapping[str, str] = field(default_factory=dict)


NO_DEFAULTS = Defaults()


def provider_defaults(arguments: Mapping[str, Any], region: str) -> Defaults:
    """From a provider's arguments, whose structures are JSON text. Raises ResourceError for others."""
    for key, value in arguments.items():
        if not (key in ("defaultTags", "version") or (key == "region" and value == region)):
            raise ArgumentUnmappedError(
                f"argument {key} of a provider is not known to the rehearsal",
                f"It has one provider, in {region}: set AWS's environment instead.",
            )
    return default_tags(arguments.get("defaultTags"))


def default_tags(value: Any) -> Defaults:
    """`value` is {"tags": {...}}, as JSON text or decoded. Raises ArgumentRefusedError."""
    if value is None:
        return NO_DEFAULTS
    try:
        decoded = json.loads(value) if isinstance(value, str) else value
        return Defaults({str(key): str(tag) for key, tag in decoded.get("tags", {}).items()})
    except (ValueError, AttributeError) as exc:
        raise ArgumentRefusedError(
            "argument defaultTags is no structure with tags", 'Write {"tags": {"key": "value"}}.'
        ) from exc


def with_default_tags(inputs: Mapping[str, Any], defaults: Defaults, handler: Handler) -> dict[str, Any]:
    """A resource's own tags win. An Auto Scaling group's are a list, and pulumi-aws leaves them alone."""
    own = inputs.get("tags", {})
    if not defaults.tags or "tags" not in handler.updates or own is UNKNOWN or not isinstance(own, Mapping):
        return dict(inputs)
    if handler.type == "aws:autoscaling/group:Group":
        return dict(inputs)
    return {**inputs, "tags": {**defaults.tags, **own}}
