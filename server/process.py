"""One server process, put together: ports, engine, notices, drain, and an end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from server.admin import Admin, bound, serve_admin
from server.app import build_app
from server.drain import Drain, Phase
from server.engine_watch import EngineFailed, EngineProbe, start_engine, stop_engine
from server.engines import ADAPTERS
from server.errors import PartEnded, SettingsError
from server.http.client import UpstreamPool
from server.http.server import HttpServer
from server.imds import Identity, ImdsClient, ImdsUnavailable, ImdsWatcher, Notice
from server.node_metrics import NodeMetrics, NodeState
from server.readiness import Readiness
from server.scaling_metric import ScalingMetric, Series
from server.settings import Settings
from server.telemetry import Telemetry, open_log

if TYPE_CHECKING:
    from server.tracing import Tracing

Log = structlog.typing.FilteringBoundLogger

# How long the last spans may take to be sent.
_TRACES_GRACE_S = 2.0
# Settings that /state shows: those that decide whether a request is served now.
_LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrency",
    "queue_size",
    "queue_seconds",
    "max_attempts",
    "request_deadline_seconds",
    "max_body_bytes",
)
_CONDITIONS = {"gateway": ("nodes",), "model": ("engine",)}


async def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT (0) or until the engine fails (1). Raises SettingsError."""
    async with aiohttp.ClientSession() as session:
        imds = _imds(settings, session)
        identity = await _identify(imds, settings)
        log = open_log(role=settings.role, instance_id=identity.instance_id)
        return await ServerProcess(settings, identity, imds, log).run()


class ServerProcess:
    """The parts of a process, and how they hear of one another."""

    def __init__(self, settings: Settings, identity: Identity, imds: ImdsClient | None, log: Log) -> None:
        self._settings = settings
        self._imds = imds
        self._log = log
        self._telemetry = Telemetry(log)
        self._option = identity.option
        self._readiness = Readiness(_CONDITIONS[settings.role], self._ready_changed)
        call_later = asyncio.get_running_loop().call_later
        self._drain = Drain(clock=time.time, call_later=call_later, log=log, entered=self._entered)
        self._tracing = self._open_tracing(identity.instance_id) if settings.traces_url else None
        self._app = build_app(settings, self._drain, self._telemetry, self._readiness, tracing=self._tracing)
        self._http = HttpServer(
            self._app.handle,
            max_body_bytes=settings.max_body_bytes,
            max_connections=settings.max_connections,
            keep_alive_s=settings.keep_alive_seconds,
            failed=self._telemetry.failed,
        )
        self._admin = Admin(
            instance_id=identity.instance_id,
            role=settings.role,
            drain=self._drain,
            readiness=self._readiness,
            telemetry=self._telemetry,
            clock=time.time,
            started_at=time.time(),
            engine=self._engine_state,
            nodes=self._app.nodes.snapshot,
            moves=self._app.moves.snapshot,
            limits={name: getattr(settings, name) for name in _LIMITS},
        )
        self._engine: asyncio.subprocess.Process | None = None
        self._probe: EngineProbe | None = None
        for gauge in ("queued", "running", "kv_used_ratio"):
            self._telemetry.metrics.read_by_label(f"engine_{gauge}", partial(self._engine_gauge, gauge))
        self._telemetry.metrics.read("in_flight", lambda: self._drain.running)
        self._telemetry.metrics.read_by_label("drain_phase", lambda: {self._drain.phase: 1})

    async def run(self) -> int:
        """See the function of this name."""
        async with AsyncExitStack() as stack:
            # Left in reverse: requests end before the engine that serves them does.
            stack.push_async_callback(self._stop_engine)
            if self._tracing is not None:
                stack.push_async_callback(self._tracing.aclose, _TRACES_GRACE_S)
            await stack.enter_async_context(self._app)
            port = await self._listen()
            stack.push_async_callback(self._http.aclose, self._settings.shutdown_grace_seconds)
            admin_port = await self._serve_admin(stack)
            self._log.info("server.started", address=self._settings.address, port=port, admin_port=admin_port)
            return await self._live()

    async def _live(self) -> int:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with aclosing(UpstreamPool()) as pool:
            await self._start_engine()
            tasks = [asyncio.create_task(work) for work in self._works(pool)]
            try:
                return await self._until(stopped, tasks)
            finally:
                await _cancel(tasks)

    async def _until(self, stopped: asyncio.Event, tasks: list[asyncio.Task[None]]) -> int:
        """The work never ends by itself: a task that is done has failed."""
        waiting = asyncio.create_task(stopped.wait())
        try:
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if stopped.is_set():
                self._stop()
                return 0
            for task in done:
                task.result()
        except EngineFailed as exc:
            self._log.error("engine.failed", problem=str(exc))
        except PartEnded as exc:
            self._log.error("server.part_ended", problem=str(exc))
        finally:
            await _cancel([waiting])
        return 1

    def _works(self, pool: UpstreamPool) -> Iterator[Coroutine[None, None, None]]:
        settings = self._settings
        yield self._app.outlive()
        if settings.role == "model":
            self._probe = EngineProbe(
                settings.engine_base,
                ADAPTERS[settings.engine],
                pool,
                self._readiness,
                log=self._log,
                interval_s=settings.engine_probe_seconds,
                timeout_s=settings.engine_probe_timeout_seconds,
                start_s=settings.engine_start_seconds,
                clock=time.monotonic,
            )
            yield self._probe.run()
        if settings.scaling_metric == "on":
            yield self._scaling_metric().run()
        if settings.node_metrics == "on":
            yield self._node_metrics().run()
        if self._engine is not None:
            yield _outlive(self._engine)
        if self._imds is not None:
            yield ImdsWatcher(
                self._imds,
                self._act,
                log=self._log,
                clock=time.time,
                poll_s=settings.imds_poll_seconds,
                lead_s=settings.lifecycle_drain_seconds,
            ).run()

    def _open_tracing(self, instance_id: str) -> Tracing:
        # Imported here: the SDK takes a fifth of a second to load.
        from server.tracing import open_tracing

        return open_tracing(
            self._settings,
            instance_id,
            self._telemetry.metrics,
            self._log,
            rng=Random(),
            clock=time.monotonic,
        )

    def _scaling_metric(self) -> ScalingMetric:
        settings = self._settings
        return ScalingMetric(
            Series(settings.stack, settings.tier or settings.role, settings.scaling_group),
            lambda: self._drain.running,
            region=settings.region,
            interval_s=settings.scaling_metric_seconds,
            puts=self._telemetry.metrics.scaling_metric,
            log=self._log,
            rng=Random(),
            wall_clock=time.time,
        )

    def _node_metrics(self) -> NodeMetrics:
        settings, metrics = self._settings, self._telemetry.metrics
        return NodeMetrics(
            Series(settings.stack, settings.tier or settings.role),
            (metrics.served, metrics.retried, metrics.resumed, metrics.notices, metrics.first_token),
            lambda: NodeState(settings.role, self._option, self._drain.phase != "serving"),
            region=settings.region,
            puts=metrics.node_metrics,
            log=self._log,
            rng=Random(),
            wall_clock=time.time,
        )

    def _act(self, notice: Notice) -> None:
        self._telemetry.metrics.notices.labels(kind=notice.kind).inc()
        if notice.drains:
            deadline = notice.deadline or time.time() + self._settings.lifecycle_drain_seconds
            self._drain.start(notice.kind, deadline, notice.source)

    def _stop(self) -> None:
        """What streams gets the grace to hand itself over."""
        self._log.info("server.stopping", in_flight=self._drain.running)
        self._drain.start("stopped", time.time() + self._settings.shutdown_grace_seconds, "signal")

    async def _listen(self) -> int:
        try:
            return await self._http.listen(self._settings.address, self._settings.port)
        except OSError as exc:
            raise _taken("port", self._settings.address, self._settings.port, exc) from exc

    async def _serve_admin(self, stack: AsyncExitStack) -> int:
        address, port = self._settings.address, self._settings.admin_port
        try:
            listener = stack.enter_context(bound(address, port))
        except OSError as exc:
            raise _taken("admin_port", address, port, exc) from exc
        return await stack.enter_async_context(serve_admin(self._admin.app(), listener))

    async def _start_engine(self) -> None:
        if self._settings.role == "model" and self._settings.engine == "embedded":
            self._engine = await start_engine(self._settings)

    async def _stop_engine(self) -> None:
        if self._engine is not None:
            await stop_engine(self._engine, self._settings.shutdown_grace_seconds)

    def _engine_state(self) -> dict[str, object] | None:
        return None if self._probe is None else self._probe.snapshot()

    def _engine_gauge(self, name: str) -> dict[str, float]:
        """No series for what the engine does not say."""
        value = None if self._probe is None else getattr(self._probe.load, name)
        return {} if value is None else {"": value}

    def _ready_changed(self, ready: bool) -> None:
        self._log.info("server.ready" if ready else "server.unready", missing=self._readiness.missing)

    def _entered(self, phase: Phase) -> None:
        self._http.closing = phase != "serving"
        if phase == "serving":
            self._app.moves.serves_again()
        if phase == "empty" and self._drain.running:
            # Neither finished nor handed over in time: cut, it resumes elsewhere while there is time for it.
            self._app.moves.cut = self._drain.running
            self._http.cut()


async def _outlive(engine: asyncio.subprocess.Process) -> None:
    code = await engine.wait()
    raise EngineFailed(f"the engine ended with exit code {code}")


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)


def _imds(settings: Settings, session: aiohttp.ClientSession) -> ImdsClient | None:
    if settings.imds_endpoint in (None, "off"):
        return None
    return ImdsClient(session, settings.imds_endpoint, clock=time.monotonic)


async def _identify(imds: ImdsClient | None, settings: Settings) -> Identity:
    """Off EC2 a process is known by its address."""
    if imds is None:
        return Identity(settings.address, settings.address)
    try:
        return await imds.identity()
    except ImdsUnavailable:
        return Identity(settings.address, settings.address)


def _taken(setting: str, address: str, port: int, exc: OSError) -> SettingsError:
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    return SettingsError(f"setting {setting}: cannot listen on {address}:{port}: {reason}")
