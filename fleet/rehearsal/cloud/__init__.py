"""The emulated AWS of a rehearsal: moto, and what moto lacks for a spot fleet."""

from fleet.rehearsal.cloud.cloud import Cloud
from fleet.rehearsal.cloud.views import (
    CloudEvent,
    GroupView,
    InstanceListener,
    InstanceView,
    Metrics,
    NoMetrics,
    Target,
)

__all__ = [
    "Cloud",
    "CloudEvent",
    "GroupView",
    "InstanceListener",
    "InstanceView",
    "Metrics",
    "NoMetrics",
    "Target",
]
