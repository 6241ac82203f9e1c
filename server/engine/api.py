"""The OpenAI API over the engine, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from server.engine.config import MODEL_ID
from server.engine.engine import Engine, Generation, Load
from server.engine.errors import EngineStoppedError, RequestError
from server.engine.fields import parse_object
from server.engine.requests import Asked, Reader
from server.engine.responses import DONE, Json, Kind, Writer, error_body, event, model_list, refusal_body
from server.engine.sampling import SEED_LIMIT

MOST_BODY_BYTES = 4 * 1024 * 1024

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True)
class Context:
    """What the outside world gives: unix seconds, request names, seeds for requests that bring none."""

    now: Callable[[], float] = time.time
    new_id: Callable[[], str] = lambda: secrets.token_hex(12)
    new_seed: Callable[[], int] = lambda: secrets.randbelow(SEED_LIMIT)


def build(
    engine: Engine, fingerprint: str, context: Context | None = None, *, model_id: str = MODEL_ID
) -> Starlette:
    api = _Api(engine, fingerprint, context or Context(), model_id)
    return Starlette(
        routes=[
            Route("/health", api.health),
            Route("/metrics", api.metrics),
            Route("/v1/models", api.models),
            Route("/v1/completions", api.completions, methods=["POST"]),
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
        ],
        exception_handlers={RequestError: _refuse, EngineStoppedError: _stopped, HTTPException: _http_error},
    )


class Answer:
    """The response to one request, streamed or whole; a client that leaves takes its sequence with it."""

    def __init__(self, generation: Generation, writer: Writer) -> None:
        self._generation = generation
        self._writer = writer

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._cancel_when_left(receive))
        try:
            await (self._stream(send) if self._writer.asked.stream else self._whole(send))
        finally:
            watch.cancel()
            self._generation.cancel()

    async def _cancel_when_left(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        self._generation.cancel()

    async def _whole(self, send: Send) -> None:
        deltas = [delta async for delta in self._generation]
        body = json.dumps(self._writer.whole(deltas), ensure_ascii=False).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        try:
            async for data in self._events():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except EngineStoppedError as exc:
            data = event(error_body(str(exc), 503, "engine_stopped"))
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _events(self) -> AsyncIterator[bytes]:
        for opening in self._writer.opening():
            yield event(opening)
        generated, first = 0, True
        async for delta in self._generation:
            yield event(self._writer.chunk(delta, first=first))
            generated, first = generated + len(delta.token_ids), False
        if self._writer.asked.include_usage:
            yield event(self._writer.usage_chunk(generated))
        yield DONE


class _Api:
    def __init__(self, engine: Engine, fingerprint: str, context: Context, model_id: str) -> None:
        self._engine = engine
        self._fingerprint = fingerprint
        self._context = context
        self._model_id = model_id
        self._reader = Reader(engine.tokenizer, engine.shape.context, model_id)
        self._started = int(context.now())

    async def health(self, _: Request) -> Response:
        return _json({"status": "stopped"}, 503) if self._engine.stopped else _json({"status": "ok"})

    async def models(self, _: Request) -> Response:
        return _json(model_list(self._model_id, self._started, self._engine.shape.context))

    async def metrics(self, _: Request) -> Response:
        return PlainTextResponse(
            exposition(self._engine.load(), self._model_id), media_type="text/plain; version=0.0.4"
        )

    async def completions(self, request: Request) -> Answer:
        return self._answer(
            "completion", self._reader.completion(await _body(request), self._context.new_seed())
        )

    async def chat(self, request: Request) -> Answer:
        return self._answer("chat", self._reader.chat(await _body(request), self._context.new_seed()))

    def _answer(self, kind: Kind, asked: Asked) -> Answer:
        name = ("chatcmpl-" if kind == "chat" else "cmpl-") + self._context.new_id()
        writer = Writer(kind, asked, name, int(self._context.now()), self._fingerprint, self._model_id)
        return Answer(self._engine.generate(asked.prompt), writer)


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BODY_BYTES:
            raise RequestError(
                f"The body is larger than {MOST_BODY_BYTES} bytes; send a shorter one.", status=413
            )
    return parse_object(bytes(content))


def exposition(load: Load, model_id: str) -> str:
    """Prometheus text under vLLM's names, so that one dashboard reads either engine."""
    rows: list[tuple[str, str, float]] = [
        ("num_requests_running", "gauge", load.running),
        ("num_requests_waiting", "gauge", load.waiting),
        ("kv_cache_usage_perc", "gauge", load.page_share),
        ("prompt_tokens_total", "counter", load.prompt_tokens_total),
        ("generation_tokens_total", "counter", load.generated_tokens_total),
        ("num_preemptions_total", "counter", load.preemptions_total),
    ]
    return "".join(
        f'# TYPE vllm:{name} {kind}\nvllm:{name}{{model_name="{model_id}"}} {value:g}\n'
        for name, kind, value in rows
    )


def _json(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """In ASCII, for a refusal may quote half a surrogate pair, which has no UTF-8."""
    return Response(json.dumps(body), status, headers, media_type="application/json")


def _refuse(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestError)
    return _json(refusal_body(exc), exc.status)


def _stopped(_: Request, exc: Exception) -> Response:
    return _json(error_body(str(exc), 503, "engine_stopped"), 503)


def _http_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    phrase = HTTPStatus(exc.status_code).phrase
    body = error_body(f"{phrase}: this engine serves the OpenAI API under /v1.", exc.status_code)
    return _json(body, exc.status_code, exc.headers)
