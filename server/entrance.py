"""What a request passes before it is read: the gate and the admission, put together from settings."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Self

from server.admission.admission import Admission, NoAdmission
from server.admission.control import AdmissionControl
from server.admission.gradient import Bounds, Gradient
from server.admission.limits import LocalMeter
from server.admission.slots import Slots
from server.auth.failures import Failures
from server.auth.gatekeeper import Gate, Gatekeeper, OpenGate
from server.auth.jwks import Jwks
from server.auth.keyfile import UNLIMITED
from server.auth.keyring import Keyring
from server.auth.principal import Allowance
from server.auth.secrets import secret_reader
from server.auth.tokens import TokenRules, Tokens
from server.errors import KeysUnusable, SecretUnreadable, SettingsError
from server.settings import Settings
from server.telemetry import Telemetry

# A file costs nothing to look at; AWS counts calls.
_FILE_POLL_S = 1.0

Start = Callable[[], Coroutine[None, None, None]]


class Entrance:
    """By default open, as a model node's is: only gateways can reach it. Within `async with`, keys are
    loaded, or SettingsError is raised, and then kept up to date.
    """

    def __init__(self, gatekeeper: Gatekeeper | None = None, admission: Admission | None = None) -> None:
        self.gatekeeper: Gatekeeper = gatekeeper or OpenGate()
        self.admission: Admission = admission or NoAdmission()
        self._firsts: list[Start] = []
        self._works: list[Start] = []
        self._lasts: list[Start] = []

    def keep(
        self, *, first: Start | None = None, work: Start | None = None, last: Start | None = None
    ) -> None:
        """Something to do before requests come, all the time, and in the end."""
        for found, kept in ((first, self._firsts), (work, self._works), (last, self._lasts)):
            if found is not None:
                kept.append(found)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            for first in self._firsts:
                await first()
            tasks = [asyncio.create_task(work()) for work in self._works]
            stack.push_async_callback(_cancel, tasks)
            self._stack = stack.pop_all()
        return self

    async def _end(self) -> None:
        for last in self._lasts:
            await last()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def open_entrance(
    settings: Settings, telemetry: Telemetry, clock: Callable[[], float], rng: Random
) -> Entrance:
    """A gateway's. `clock` is monotonic seconds."""
    entrance = Entrance()
    if settings.auth == "on":
        entrance.gatekeeper = _gate(settings, telemetry, clock, entrance)
    else:
        telemetry.log.warning("auth.off")
    entrance.admission = _admission(settings, telemetry, clock, rng, entrance)
    return entrance


def _gate(
    settings: Settings, telemetry: Telemetry, clock: Callable[[], float], entrance: Entrance
) -> Gatekeeper:
    keyring = _keyring(settings, telemetry)
    tokens = _tokens(settings, telemetry, clock, keyring, entrance)
    if keyring is not None:
        # A tenant's models and limits are part of what is known of its tokens.
        keyring.changed = tokens.forget if tokens is not None else keyring.changed
        entrance.keep(first=lambda: _loaded("keys", keyring.load), work=keyring.run)
        telemetry.metrics.read("keys_stale", lambda: keyring.failing)
    failed = telemetry.metrics.auth_failures
    return Gate(
        keyring,
        tokens,
        Failures(clock, settings.auth_failures_per_minute),
        proxies=settings.trusted_proxies,
        refused=lambda reason: failed.labels(reason=reason).inc(),
    )


def _keyring(settings: Settings, telemetry: Telemetry) -> Keyring | None:
    if settings.keys is None:
        return None
    return Keyring(
        secret_reader(settings.keys, settings.region),
        poll_s=_FILE_POLL_S if settings.keys.startswith("file:") else settings.keys_poll_seconds,
        clock=time.time,
        log=telemetry.log,
    )


def _tokens(
    settings: Settings,
    telemetry: Telemetry,
    clock: Callable[[], float],
    keyring: Keyring | None,
    entrance: Entrance,
) -> Tokens | None:
    if settings.jwt_jwks_url is None or settings.jwt_issuer is None or settings.jwt_audience is None:
        return None
    jwks = Jwks(settings.jwt_jwks_url, clock=clock, log=telemetry.log)
    rules = TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        tenant_claim=settings.jwt_tenant_claim,
        leeway_s=settings.jwt_leeway_seconds,
    )
    tokens = Tokens(jwks, rules, clock=time.time, tenant=keyring.tenant if keyring else lambda _: UNLIMITED)
    jwks.changed = tokens.forget
    # Keys go on being good while the issuer is down; without them there is nothing to start for.
    first = jwks.refresh if keyring else lambda: _loaded("jwt_jwks_url", jwks.load)
    entrance.keep(first=first, work=jwks.run, last=jwks.aclose)
    return tokens


def _admission(
    settings: Settings,
    telemetry: Telemetry,
    clock: Callable[[], float],
    rng: Random,
    entrance: Entrance,
) -> Admission:
    bounds = Bounds(settings.first_tokens_floor, settings.first_tokens_initial, settings.first_tokens_ceiling)
    shed, limited = telemetry.metrics.shed, telemetry.metrics.limited
    slots = Slots(
        Gradient(bounds),
        most_waiting=settings.queue_size,
        clock=clock,
        rng=rng,
        shed=lambda priority: shed.labels(priority=priority.name.lower()).inc(),
    )
    telemetry.metrics.read("queued", lambda: slots.waiting)
    telemetry.metrics.read("concurrency_limit", lambda: slots.gradient.limit)
    control = AdmissionControl(
        LocalMeter(clock),
        slots,
        Allowance(settings.requests_per_minute, settings.tokens_per_minute, settings.concurrency),
        queue_s=settings.queue_seconds,
        limited=lambda kind: limited.labels(limit=kind).inc(),
    )
    if settings.limits_url is not None:
        _share(control, settings, telemetry, clock, entrance)
    return control


def _share(
    control: AdmissionControl,
    settings: Settings,
    telemetry: Telemetry,
    clock: Callable[[], float],
    entrance: Entrance,
) -> None:
    # Imported here: redis takes a fifth of a second to load, and few need it.
    from server.admission.shared import SharedMeter

    reference = settings.limits_url or ""
    direct = reference.startswith("redis")

    async def connect() -> None:
        url = reference if direct else await asyncio.to_thread(secret_reader(reference, settings.region))
        meter = SharedMeter(url, LocalMeter(clock), clock, telemetry.log)
        control.meter = meter
        telemetry.metrics.read("limits_shared", lambda: meter.available)
        entrance.keep(work=meter.run, last=meter.aclose)

    entrance.keep(first=lambda: _loaded("limits_url", connect))


async def _loaded(setting: str, load: Start) -> None:
    try:
        await load()
    except (SecretUnreadable, KeysUnusable) as exc:
        raise SettingsError(f"setting {setting}: {exc}") from exc


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
