"""A scaling policy's arguments where pulumi-aws names them other than AWS does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.rehearsal.resources.shapes import UNKNOWN


def policy_arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """By AWS's names: dimensions of a customized metric, and the one specification of a forecast's list."""
    shaped = dict(inputs)
    for key, change in (
        ("targetTrackingConfiguration", _tracking),
        ("predictiveScalingConfiguration", _forecast),
    ):
        if isinstance(shaped.get(key), Mapping):
            shaped[key] = change(shaped[key])
    return shaped


def _tracking(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _metric(value) if key == "customizedMetricSpecification" else value
        for key, value in given.items()
    }


def _metric(given: Any) -> Any:
    if given is UNKNOWN or given is None:
        return given
    return {"dimensions" if key == "metricDimensions" else key: value for key, value in given.items()}


def _forecast(given: Mapping[str, Any]) -> dict[str, Any]:
    shaped = dict(given)
    only = shaped.pop("metricSpecification", None)
    if only is None:
        return shaped
    return {**shaped, "metricSpecifications": only if only is UNKNOWN else [only]}
