"""The console's routes: the page, its events, and a person's drain."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.console.feed import Feed
from fleet.console.guard import Guard, Refusal, Secrets, refused
from fleet.control.drain import LONGEST_DRAIN_S
from fleet.errors import GoldenfleetError

MOST_VIEWERS = 32
SLOWEST_SEND_S = 20.0
"""A viewer that takes nothing for so long is let go; its page connects again when it wakes."""

_MOST_BODY = 4096
_PAGE = files("fleet.console") / "page"
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")


class Drains(Protocol):
    """Both may raise GoldenfleetError."""

    def drain(self, instance_id: str, reason: str, deadline_s: float) -> None: ...
    def undrain(self, instance_id: str) -> None: ...


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instance_id: Annotated[str, Field(pattern=f"^{_INSTANCE.pattern}$")]


class DrainOrder(_Strict):
    reason: Annotated[str, Field(min_length=1, max_length=200)]
    deadline_s: Annotated[float, Field(ge=1, le=LONGEST_DRAIN_S, allow_inf_nan=False)]


class UndrainOrder(_Strict):
    pass


@dataclass(frozen=True)
class Console:
    """`drains` is None where the console may only look."""

    feed: Feed
    known: Secrets
    drains: Drains | None
    clock: Callable[[], float]
    stale_after_s: float
    slowest_send_s: float = SLOWEST_SEND_S

    def app(self) -> ASGIApp:
        routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/events", self.events, methods=["GET"]),
            Route("/drain", self.drain, methods=["POST"]),
            Route("/undrain", self.undrain, methods=["POST"]),
        ]
        return Guard(Starlette(routes=routes), self.known)

    async def page(self, _: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        html = Template(_read("page.html")).substitute(
            nonce=nonce,
            css=_read("page.css"),
            js=_read("timeline.js") + _read("page.js"),
            start=self.known.name,
            token=self.known.token,
            may_drain="true" if self.drains else "false",
            mode="drains allowed" if self.drains else "read only",
            stale_after=f"{self.stale_after_s:g}",
        )
        return HTMLResponse(html, headers={"content-security-policy": _policy(nonce)})

    async def events(self, _: Request) -> Response:
        if self.feed.viewers >= MOST_VIEWERS:
            return refused(Refusal(503, "too_many_viewers", f"{MOST_VIEWERS} pages are open; close one"))
        return _EventStream(self._messages(), self.slowest_send_s)

    async def _messages(self) -> AsyncGenerator[bytes]:
        yield b"retry: 1000\n\n" + self._clock_message()
        async with aclosing(self.feed.frames()) as frames:
            async for frame in frames:
                if frame is None:
                    yield self._clock_message()
                else:
                    yield b"id: %d\nevent: fleet\ndata: %s\n\n" % (frame.number, frame.data)

    def _clock_message(self) -> bytes:
        return b"event: clock\ndata: %s\n\n" % json.dumps({"now": self.clock()}).encode()

    async def drain(self, request: Request) -> Response:
        return await self._order(request, DrainOrder)

    async def undrain(self, request: Request) -> Response:
        return await self._order(request, UndrainOrder)

    async def _order(self, request: Request, kind: type[DrainOrder | UndrainOrder]) -> Response:
        if self.drains is None:
            return refused(
                Refusal(403, "read_only", "this console only shows"), "Start it with --allow-drain."
            )
        try:
            order = kind.model_validate_json(await _body(request))
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, error["loc"])) or "body"
            return refused(Refusal(400, "invalid_request", f"{where}: {error['msg']}"))
        try:
            await run_in_threadpool(self._carry_out, order)
        except GoldenfleetError as error:
            return refused(Refusal(502, "not_taken", error.message), error.hint)
        self.feed.hasten()
        return JSONResponse({"taken": True}, 202)

    def _carry_out(self, order: DrainOrder | UndrainOrder) -> None:
        assert self.drains is not None
        match order:
            case DrainOrder():
                self.drains.drain(order.instance_id, order.reason, order.deadline_s)
            case UndrainOrder():
                self.drains.undrain(order.instance_id)


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _policy(nonce: str) -> str:
    """Only this page's own script and style, only this origin, in no frame, and no markup out of strings."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


async def _body(request: Request) -> bytes:
    """At most a little too much, which is no JSON then."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BODY:
            break
    return bytes(body[: _MOST_BODY + 1])


class _EventStream(Response):
    """Server-sent events (HTML standard, 9.2), ended when the viewer leaves or takes nothing for too long."""

    def __init__(self, messages: AsyncGenerator[bytes], slowest_s: float) -> None:
        super().__init__(media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._messages = messages
        self._slowest_s = slowest_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._messages) as messages:
            async for message in messages:
                try:
                    async with asyncio.timeout(self._slowest_s):
                        await send({"type": "http.response.body", "body": message, "more_body": True})
                except TimeoutError:
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
