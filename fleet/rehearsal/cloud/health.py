"""Health checks of targets: real HTTP requests to real nodes, at the target group's own intervals."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import aiohttp
from moto.elbv2.models import FakeTargetGroup

from fleet.rehearsal.cloud import targets
from fleet.rehearsal.cloud.loop import LoopThread
from fleet.rehearsal.cloud.records import TargetRecord
from fleet.rehearsal.cloud.world import World

# A process on a busy machine does not answer faster because the rehearsal's time is scaled.
_LEAST_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Probe:
    target_group_arn: str
    instance_id: str
    url: str
    timeout: float  # seconds
    matcher: str


@dataclass(frozen=True)
class Result:
    """`failure` is AWS's reason code, None for a pass."""

    probe: Probe
    failure: str | None
    description: str | None = None


def matches(matcher: str, status: int) -> bool:
    """Whether a status is one of a matcher's codes, such as `200,202` or `200-299`."""
    for part in matcher.split(","):
        low, _, high = part.partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False


def due(world: World) -> list[Probe]:
    """The probes to send now; each is marked as sent."""
    return [
        _probe(world, target_group, record)
        for target_group in world.elbv2.target_groups.values()
        if target_group.health_check_protocol in ("HTTP", "HTTPS")
        for record in world.targets.get(target_group.arn, {}).values()
        if _is_due(world, record)
    ]


def record_result(world: World, result: Result) -> None:
    """Count one probe, and move the target's state as an ALB does: one pass admits a new target."""
    arn = result.probe.target_group_arn
    record = world.targets.get(arn, {}).get(result.probe.instance_id)
    if record is None:
        return
    record.probing = False
    if record.state not in ("initial", "healthy", "unhealthy"):
        return
    target_group = world.elbv2.target_groups[arn]
    if result.failure is None:
        _passed(world, target_group, record)
    else:
        _failed(world, target_group, record, result)


def _probe(world: World, target_group: FakeTargetGroup, record: TargetRecord) -> Probe:
    record.probing = True
    interval = world.scaled(float(target_group.health_check_interval_seconds))
    record.next_probe_at = world.clock() + interval
    if record.reason == "Elb.RegistrationInProgress":
        targets.change(world, target_group.arn, record, "initial", "Elb.InitialHealthChecking")
    check_port = target_group.health_check_port
    port = record.port if check_port in (None, "traffic-port") else int(str(check_port))
    address = world.machines[record.instance_id].lease.address
    return Probe(
        target_group.arn,
        record.instance_id,
        f"http://{address}:{port}{target_group.health_check_path or '/'}",
        max(_LEAST_TIMEOUT_SECONDS, world.scaled(float(target_group.health_check_timeout_seconds))),
        str((target_group.matcher or {}).get("HttpCode") or "200"),
    )


def _is_due(world: World, record: TargetRecord) -> bool:
    return (
        record.state in ("initial", "healthy", "unhealthy")
        and not record.probing
        and record.instance_id in world.machines
        and world.clock() >= record.next_probe_at
    )


def _passed(world: World, target_group: FakeTargetGroup, record: TargetRecord) -> None:
    record.failures = 0
    record.passes += 1
    needed = 1 if record.state == "initial" else int(target_group.healthy_threshold_count)
    if record.passes >= needed:
        targets.change(world, target_group.arn, record, "healthy", None)


def _failed(world: World, target_group: FakeTargetGroup, record: TargetRecord, result: Result) -> None:
    record.passes = 0
    record.failures += 1
    if record.failures >= int(target_group.unhealthy_threshold_count):
        targets.change(
            world, target_group.arn, record, "unhealthy", result.failure, description=result.description
        )


class Prober:
    """Sends probes on the cloud's asyncio thread and keeps the results until they are taken."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._session: aiohttp.ClientSession | None = None

    def send(self, probes: Iterable[Probe]) -> list[Future[None]]:
        return [self._loop.submit(self._send(probe)) for probe in probes]

    def take(self) -> list[Result]:
        """The results that came since the last call."""
        taken = []
        while not self._results.empty():
            taken.append(self._results.get_nowait())
        return taken

    def close(self) -> None:
        self._loop.submit(self._close()).result()

    async def _send(self, probe: Probe) -> None:
        self._results.put(await self._ask(probe))

    async def _ask(self, probe: Probe) -> Result:
        try:
            async with asyncio.timeout(probe.timeout):
                status = await self._status(probe.url)
        except TimeoutError:
            return Result(probe, "Target.Timeout")
        except (aiohttp.ClientError, OSError):
            return Result(probe, "Target.FailedHealthChecks")
        if matches(probe.matcher, status):
            return Result(probe, None)
        return Result(
            probe, "Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]"
        )

    async def _status(self, url: str) -> int:
        if self._session is None:
            # A connection each: a kept one would outlive the node that it was opened to.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        headers = {"User-Agent": "ELB-HealthChecker/2.0"}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            return response.status

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
