"""The serving port's application: routes, refusals and the drain, for either role."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from server.access_log import AccessLog
from server.admission.admission import Ticket
from server.ask import Fleet, Limits
from server.catalogue import Catalogue, ListingReader
from server.discovery import Found, Source, open_sources, watch
from server.drain import Drain
from server.engines import ADAPTERS, ENGINE_HEADER
from server.entrance import Entrance, open_entrance
from server.errors import (
    SILENT,
    STATE_HEADER,
    DiscoveryFailed,
    HeaderList,
    NodeDraining,
    NodesFailed,
    NotYetReady,
    PartEnded,
    RequestRefused,
    RequestTooLarge,
)
from server.handover import Handover
from server.http.client import UpstreamPool
from server.http.errors import BodyTooLarge, ClientGone
from server.http.exchange import Exchange
from server.moves import Moves
from server.observation import BUG, CLIENT_GONE, OK, TRACEPARENT, Observer
from server.pace import Paces, Patience
from server.probe import Prober
from server.proxy import Call, EngineProxy, Proxy
from server.readiness import Readiness
from server.retry import MAX_TOTAL_ATTEMPTS, Budget
from server.routes import PROBES, Route, find_route, wire_of
from server.settings import Settings
from server.telemetry import Telemetry
from server.upstreams import NodeSet
from server.watch import Watchman

if TYPE_CHECKING:
    from server.tracing import Tracing

DEADLINE_HEADER = "x-request-timeout-ms"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class App:
    """`handle` answers one exchange. Within `async with`, nodes are looked for and the drain is obeyed."""

    def __init__(
        self,
        settings: Settings,
        drain: Drain,
        telemetry: Telemetry,
        readiness: Readiness,
        fleet: Fleet,
        sources: Sequence[Source],
        entrance: Entrance,
        observer: Observer,
    ) -> None:
        self._settings = settings
        self._drain = drain
        self._telemetry = telemetry
        self._readiness = readiness
        self._fleet = fleet
        self._sources = sources
        self._entrance = entrance
        self._observer = observer
        engine = settings.engine.encode() if settings.role == "model" else None
        self._engine_header = [] if engine is None else [(ENGINE_HEADER.encode(), engine)]
        self._handover = Handover(drain)
        make = Proxy if settings.role == "gateway" else EngineProxy
        self._proxy = make(fleet, self._handover, settings.heartbeat_seconds, fleet.rng)

    @property
    def nodes(self) -> NodeSet:
        return self._fleet.nodes

    @property
    def moves(self) -> Moves:
        return self._observer.moves

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._entrance)
            stack.push_async_callback(self._fleet.aclose)
            self._tasks = [asyncio.create_task(self._handover.watch(), name="handover")]
            for number, source in enumerate(self._sources):
                self._tasks.append(asyncio.create_task(self._watch(number, source), name="discovery"))
            stack.push_async_callback(_cancel, self._tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def outlive(self) -> None:
        """Until a part of this ends, which none does. Raises PartEnded."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            cause = None if task.cancelled() else task.exception()
            raise PartEnded(f"{task.get_name()} ended: {type(cause).__name__}") from cause

    async def handle(self, exchange: Exchange) -> None:
        """One request, from its head to its response's end."""
        request = exchange.request
        request_id = self._request_id(request.headers.get("x-request-id"))
        seen = self._observer.begin(request_id, request.headers.get(TRACEPARENT))
        headers = self._headers(request_id)
        call = Call(exchange, request_id, headers, self._deadline_s(exchange), seen.began, seen)
        outcome: str = BUG
        status: int | None = 500
        try:
            if request.path in PROBES and request.method in ("GET", "HEAD"):
                await self._probe(call)
                outcome, status = OK, 200
                return
            route = find_route(request.path, request.method)
            seen.routed(route.name)
            principal = await self._entrance.gatekeeper.principal(request, route.scope)
            seen.tenant = principal.tenant
            call.principal = principal
            await self._admitted(route, call)
            outcome, status = OK, 200
        except RequestRefused as exc:
            outcome, status = exc.code, 200
            # An error inside a stream has been told there.
            if not exchange.started:
                status = await call.refuse(exc, wire_of(request.path))
        except ClientGone:
            outcome, status = CLIENT_GONE, None
        except asyncio.CancelledError:
            refusal = exchange.refusal
            outcome, status = (CLIENT_GONE, None) if refusal is None else (refusal.code, refusal.status)
            raise
        finally:
            seen.ended(outcome, status)

    async def _admitted(self, route: Route, call: Call) -> None:
        """Limits first, for they cost nothing; then the body; then a place, which no slow upload holds."""
        if not self._drain.accepts:
            self._drain.refused()
            raise NodeDraining
        self._drain.enter()
        try:
            ticket = await self._entrance.admission.admit(call.principal, call.exchange.request)
            try:
                call.headers.extend(ticket.headers)
                body = await self._placed(route, call, ticket)
                call.observation.admitted(ticket.first_token)
                call.ticket = ticket
                await self._serve(route, call, body)
            except NodesFailed as exc:
                if exc.status == 503:
                    ticket.refused()
                raise
            finally:
                ticket.end(call.observation.prompt_tokens, call.observation.completion_tokens)
        finally:
            self._drain.exit()

    async def _placed(self, route: Route, call: Call, ticket: Ticket) -> bytes:
        """The body, once there is a place for it; both within the request's time."""
        here = call.exchange.request.complete or not route.body
        if here and ticket.try_slot():
            return await self._body(call) if route.body else b""
        async with self._handover.within(call.deadline_s, self._fleet.clock() - call.began):
            body = await self._body(call) if route.body else b""
            if not ticket.try_slot():
                await ticket.slot(call.deadline_s)
        return body

    async def _serve(self, route: Route, call: Call, body: bytes) -> None:
        self._fleet.budget.begin()
        try:
            await route.serve(self._proxy, call, body)
        finally:
            self._fleet.budget.end()

    async def _body(self, call: Call) -> bytes:
        try:
            return await call.exchange.request.body(self._settings.max_body_bytes)
        except BodyTooLarge as exc:
            raise RequestTooLarge(
                f"The body is larger than {exc.limit} bytes; send a smaller request."
            ) from exc

    async def _probe(self, call: Call) -> None:
        """/health says that the process lives, /ready that the balancer may send."""
        if call.exchange.request.path == "/health":
            if self._settings.role == "model" and any(node.silent for node in self.nodes.nodes):
                call.headers.append((STATE_HEADER.encode(), SILENT.encode()))
            await call.answer({"status": "ok"})
        elif self._drain.draining:
            raise NodeDraining
        elif not self._readiness.ready:
            missing = ", ".join(self._readiness.missing)
            raise NotYetReady(f"This node is not ready yet: {missing}.", retry_after_ms=1000)
        else:
            await call.answer({"status": "ready"})

    async def _watch(self, number: int, source: Source) -> None:
        await watch(
            source,
            partial(self._found, number),
            self._not_found,
            interval_s=self._settings.nodes_poll_seconds,
            rng=self._fleet.rng,
        )

    def _found(self, source: int, found: Found) -> None:
        if self._fleet.catalogue is not None:
            self._fleet.catalogue.found(source, found)
            return
        self._fleet.nodes.replace(found)
        # Once it has had a node, a gateway holds requests while there is none.
        if found:
            self._readiness.set("nodes", True)

    def _not_found(self, problem: DiscoveryFailed) -> None:
        self._telemetry.log.warning("nodes.unreadable", problem=str(problem))

    def _headers(self, request_id: str) -> HeaderList:
        headers = [(b"x-request-id", request_id.encode()), *self._engine_header]
        if self._drain.phase == "accepting":
            headers += [(STATE_HEADER.encode(), b"draining"), (b"connection", b"close")]
        return headers

    def _request_id(self, given: str | None) -> str:
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"req_{self._fleet.rng.getrandbits(96):024x}"

    def _deadline_s(self, exchange: Exchange) -> float:
        """A client may ask for less time than the server's own limit, in milliseconds."""
        most = self._settings.request_deadline_seconds
        asked = exchange.request.headers.get(DEADLINE_HEADER)
        if asked is None or not re.fullmatch(r"[0-9]{1,9}", asked):
            return most
        return min(most, int(asked) / 1000)


def build_app(
    settings: Settings,
    drain: Drain,
    telemetry: Telemetry,
    readiness: Readiness,
    *,
    rng: Random | None = None,
    clock: Callable[[], float] = time.monotonic,
    tracing: Tracing | None = None,
) -> App:
    """The application of either role. `clock` is monotonic seconds. Raises SettingsError."""
    rng = rng or Random()
    access_log = AccessLog(settings.access_log, telemetry.log, telemetry.metrics.unlogged, clock)
    observer = Observer(telemetry.metrics, telemetry.log, access_log, clock, tracing=tracing)
    entrance = open_entrance(settings, telemetry, clock, rng) if settings.role == "gateway" else Entrance()
    gateway = settings.role == "gateway"
    sources = open_sources(settings.nodes or "", settings.region) if gateway else []
    nodes = NodeSet(rng, clock, affinity=settings.affinity == "prefix", by_model=len(sources) > 1)
    pool = UpstreamPool(connect_timeout_s=settings.connect_seconds)
    dialect = ADAPTERS.get((settings.upstream_engine if gateway else settings.engine) or "")
    if not gateway:
        parts = urlsplit(settings.engine_base)
        nodes.replace({"engine": (parts.hostname or "127.0.0.1", parts.port or 80)})
    prober = Prober(nodes, probe_s=settings.probe_seconds, log=telemetry.log, rng=rng, clock=clock)
    fleet = Fleet(
        nodes=nodes,
        pool=pool,
        budget=Budget(clock, settings.retry_budget, settings.retry_budget_minimum),
        limits=Limits(
            # A node has one engine: another attempt is the gateway's to make, elsewhere.
            holds=gateway,
            max_attempts=settings.max_attempts if gateway else 1,
            max_total_attempts=MAX_TOTAL_ATTEMPTS if gateway else 1,
            max_response_bytes=settings.max_response_bytes,
            affinity_characters=settings.affinity_characters if settings.affinity == "prefix" else None,
        ),
        paces=Paces(
            Patience(
                suspect_s=settings.suspect_seconds,
                stall_s=settings.stall_seconds,
                first_byte_s=settings.first_byte_seconds,
                silence_s=settings.silence_seconds,
            )
        ),
        watchman=Watchman(nodes, prober, clock),
        prober=prober,
        rng=rng,
        clock=clock,
        sleep=asyncio.sleep,
        dialect=dialect,
        catalogue=Catalogue(
            nodes,
            len(sources),
            ListingReader(pool, dialect.models if dialect else None),
            ready=lambda: readiness.set("nodes", True),
            log=telemetry.log,
            clock=clock,
        )
        if len(sources) > 1
        else None,
    )
    telemetry.metrics.read("ejections", lambda: nodes.ejected)
    telemetry.metrics.read_by_label(
        "nodes", lambda: {str(state): count for state, count in nodes.counts().items()}
    )
    return App(settings, drain, telemetry, readiness, fleet, sources, entrance, observer)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
