"""pulumi-aws's resource types on AWS's API, by boto3: whatever answers at the endpoint, moto or AWS."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from fleet.rehearsal.resources import (
    balancing,
    events,
    identity,
    network,
    observability,
    parameters,
    queues,
    scaling,
    security,
    templates,
)
from fleet.rehearsal.resources.aws import Aws, Timing
from fleet.rehearsal.resources.errors import TypeUnknownError
from fleet.rehearsal.resources.functions import answer
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want
from fleet.rehearsal.resources.shapes import UNKNOWN, Unknown

HANDLERS: Mapping[str, Handler] = {
    handler.type: handler
    for handler in chain(
        network.HANDLERS,
        security.HANDLERS,
        balancing.HANDLERS,
        identity.HANDLERS,
        queues.HANDLERS,
        events.HANDLERS,
        templates.HANDLERS,
        scaling.HANDLERS,
        parameters.HANDLERS,
        observability.HANDLERS,
    )
}


def handler_of(resource_type: str) -> Handler:
    """Raises TypeUnknownError."""
    if resource_type not in HANDLERS:
        raise TypeUnknownError(
            f"no resource type {resource_type} in the rehearsal",
            "Map it in fleet/rehearsal/resources, or do without it in the program.",
        )
    return HANDLERS[resource_type]


__all__ = [
    "HANDLERS",
    "REQUIRED",
    "UNKNOWN",
    "Aws",
    "Handler",
    "Timing",
    "Unknown",
    "Want",
    "answer",
    "handler_of",
]
