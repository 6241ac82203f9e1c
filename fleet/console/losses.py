"""Requests that were lost, by the gateways' own counters and by CloudWatch."""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.oncall.threads import side_by_side

_TIMEOUT_S = 1.0
_MOST = 4 * 1024 * 1024  # bytes of one exposition
_AT_ONCE = 16
# docs/metrics.md: requests ended, by who asked for which model; `failed` is what the alarm `lost` counts.
_FAILED = re.compile(
    r'^goldenfleet_tenant_requests_total\{[^}\n]*result="failed"[^}\n]*\} ([0-9.e+-]+)$', re.MULTILINE
)
# The environment's proxies do not lead into a VPC.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Losses:
    since: float
    """Unix seconds: gateways are counted from here on."""
    count: int
    """Lost since then, on gateways that are gone too."""
    gateways: int
    answered: int
    """Of the gateways: where it is 0, `count` says nothing."""
    hour: int | None
    """In the last hour, by CloudWatch, which is up to two minutes behind; None where it was not told."""


@dataclass(frozen=True)
class Gateway:
    instance_id: str
    address: str
    launched_at: float


class Counters:
    """What gateways' counters rose by since `since`. A counter that falls was started anew."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._last: dict[str, float] = {}
        self._count = 0.0

    def look(self, gateways: Iterable[Gateway], failed: Mapping[str, float]) -> int:
        """`failed`: instance id -> its counter now. Gives all that was lost since `since`."""
        launched = {gateway.instance_id: gateway.launched_at for gateway in gateways}
        for instance_id, value in failed.items():
            fresh = launched.get(instance_id, 0.0) >= self.since
            before = self._last.get(instance_id, 0.0 if fresh else value)
            self._count += value - before if value >= before else value
            self._last[instance_id] = value
        return round(self._count)


def ask(gateways: Iterable[Gateway], port: int) -> dict[str, float]:
    """Instance id -> requests that it failed since it started, for every gateway that answers."""
    asked = list(gateways)
    told = side_by_side(lambda gateway: _failed(gateway.address, port), asked, _AT_ONCE)
    return {
        gateway.instance_id: count for gateway, count in zip(asked, told, strict=True) if count is not None
    }


def _failed(address: str, port: int) -> float | None:
    """None when nobody answers there, which is how most laptops are: outside the VPC."""
    try:
        with _OPENER.open(f"http://{address}:{port}/metrics", timeout=_TIMEOUT_S) as answer:
            return read(answer.read(_MOST).decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None


def read(exposition: str) -> float:
    """The sum over tenants and models."""
    return sum(float(value) for value in _FAILED.findall(exposition))
