"""The admin port: metrics, state, drain. Loopback or inside the VPC only, never the serving port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.drain import Drain
from server.readiness import Readiness
from server.telemetry import Telemetry

_MAX_BODY = 4096
_BACKLOG = 128
# What admission learns and counts, by the names of its metrics.
_LEARNED = ("concurrency_limit", "queued", "limits_shared")


class DrainOrder(BaseModel):
    """Body of POST /drain: why, and within how many seconds from now."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=200)
    deadline_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


@dataclass(frozen=True)
class Admin:
    """The admin port's routes over what they show and change. `clock` gives unix seconds, `limits` are the
    settings that bound requests.
    """

    instance_id: str
    role: str
    drain: Drain
    readiness: Readiness
    telemetry: Telemetry
    clock: Callable[[], float]
    started_at: float
    engine: Callable[[], dict[str, object] | None] = lambda: None
    nodes: Callable[[], list[dict[str, object]]] = list
    moves: Callable[[], dict[str, object]] = dict
    limits: Mapping[str, object] = field(default_factory=dict)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/metrics", self.metrics, methods=["GET"]),
                Route("/state", self.state, methods=["GET"]),
                Route("/drain", self.start_drain, methods=["POST"]),
                Route("/undrain", self.stop_drain, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    async def metrics(self, _: Request) -> Response:
        return Response(self.telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def state(self, _: Request) -> Response:
        return JSONResponse(self.snapshot())

    async def start_drain(self, request: Request) -> Response:
        """Begins or hastens the drain; asking again is harmless."""
        try:
            order = DrainOrder.model_validate_json(await _body(request))
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in error["loc"]) or "body"
            return _refuse(400, "invalid_request", f"{where}: {error['msg']}; send reason and deadline_s")
        changed = self.drain.start(order.reason, self.clock() + order.deadline_s, "admin")
        return JSONResponse({"changed": changed, **self.snapshot()}, status_code=202)

    async def stop_drain(self, _: Request) -> Response:
        if self.drain.draining and not self.drain.cancel():
            return _refuse(409, "drain_binding", "AWS is taking this instance away; it cannot serve again")
        return JSONResponse(self.snapshot())

    def snapshot(self) -> dict[str, object]:
        """What GET /state shows; times are unix seconds."""
        return {
            "instance_id": self.instance_id,
            "role": self.role,
            "phase": self.drain.phase,
            "reason": self.drain.reason,
            "source": self.drain.source,
            "deadline": self.drain.deadline,
            "drain_started_at": self.drain.started_at,
            "binding": self.drain.binding,
            "in_flight": self.drain.running,
            "ready": self.readiness.ready and not self.drain.draining,
            "missing": list(self.readiness.missing),
            "started_at": self.started_at,
            "engine": self.engine(),
            "nodes": self.nodes(),
            **self.moves(),
            "limits": {**self.limits, **{name: self.telemetry.metrics.reading(name) for name in _LEARNED}},
        }


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY:
            raise HTTPException(413, "the body is too large; send reason and deadline_s")
    return bytes(body)


async def _http_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    response = _refuse(exc.status_code, codes.get(exc.status_code, "invalid_request"), str(exc.detail))
    response.headers.update(exc.headers or {})
    return response


def _refuse(status: int, code: str, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


@contextmanager
def bound(address: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, bound here because uvicorn ends the process over a taken port. Raises OSError."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener


@asynccontextmanager
async def serve_admin(app: Starlette, listener: socket.socket) -> AsyncIterator[int]:
    """Serves `app` on `listener`; gives its port."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = _Uvicorn(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own business, not the admin port's."""
        yield
