"""What both roles do with a request for the model: a gateway asks its nodes, a node asks its engine."""

import json
from collections.abc import Coroutine
from dataclasses import dataclass
from random import Random
from types import TracebackType

from server.admission.admission import NO_TICKET, Ticket
from server.ask import Fleet
from server.attempts import Attempts, Expects, given_up
from server.auth.models import check_model, visible_models
from server.auth.principal import ANONYMOUS, Principal
from server.errors import (
    AttemptFailed,
    HeaderList,
    NodesFailed,
    RequestRefused,
    Wire,
    WireError,
    envelope,
    refusal_headers,
)
from server.faces import Face, TgiFace, openai_face, speaks_tgi_chat, tgi_chat_answer
from server.handover import Handover, Scope
from server.http.exchange import Exchange
from server.http.headers import Headers
from server.http.upstream import Push
from server.observation import Observation
from server.outlet import Discard, Outlet
from server.relay import Relay
from server.retry import Failure
from server.upstreams import Node
from server.wire import tgi
from server.wire.jsonbody import Json, dump
from server.wire.openai import Generation, check_answer, holds_given_up, read_generation, upstream_unary
from server.wire.sse import DONE, Event
from server.wire.usage import answer_of, prompt_of, read_usage
from server.wire.whole_events import WholeEvents

# Response headers of a node or an engine that a client gets; all others are ours or nobody's business.
_PASSED_HEADERS = (b"content-type", b"openai-processing-ms")


@dataclass(slots=True)
class Call:
    """One request of a client, with what every part of its handling needs. `headers` go on every answer;
    `began` is on the fleet's clock.
    """

    exchange: Exchange
    request_id: str
    headers: HeaderList
    deadline_s: float
    began: float
    observation: Observation
    principal: Principal = ANONYMOUS
    ticket: Ticket = NO_TICKET

    def upstream_headers(self, *, stream: bool) -> HeaderList:
        """Nothing that the client sent goes on but its request's id and body."""
        return [
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if stream else b"application/json"),
            (b"x-request-id", self.request_id.encode()),
        ]

    async def refuse(self, error: RequestRefused, wire: Wire) -> int:
        """Answer with an error, as long as nothing was answered; gives its status. Raises ClientGone."""
        status = 422 if wire == "tgi" and error.status == 400 else error.status
        answer = envelope(error, wire)
        headers = dict([*self.headers, *refusal_headers(error)])
        await self.exchange.respond(status, headers.items(), answer)
        return status

    async def answer(self, answer: Json | list[Json]) -> None:
        """Raises ClientGone."""
        body = dump(answer)
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache"), *self.headers]
        await self.exchange.respond(200, headers, body)


class Proxy:
    """The gateway: any node may answer, and a stream outlives the node that began it."""

    def __init__(self, fleet: Fleet, handover: Handover, heartbeat_s: float, rng: Random) -> None:
        self._fleet = fleet
        self._handover = handover
        self._heartbeat_s = heartbeat_s
        self._rng = rng

    def chat(self, call: Call, raw: bytes) -> Coroutine[None, None, None]:
        return self._openai(call, _allowed(call, read_generation("chat", raw)), raw)

    def completions(self, call: Call, raw: bytes) -> Coroutine[None, None, None]:
        return self._openai(call, _allowed(call, read_generation("completions", raw)), raw)

    async def tgi(self, call: Call, raw: bytes, *, stream: bool | None, listed: bool) -> None:
        """`stream` is what the route says, None leaves it to the body; `listed` wraps a plain answer."""
        request = tgi.read_request(raw, self._rng, stream=stream)
        check_model(call.principal, None)
        call.observation.asked(None, stream=request.stream)
        answer = tgi.TgiAnswer(request)
        face = TgiFace(answer, call.request_id)
        if request.stream:
            await self._stream(call, request.generation, face)
            return
        async with self._within(call):
            relay = Relay(
                self._fleet,
                self._attempts(call, request.generation),
                request.generation,
                face,
                Discard(),
                call.upstream_headers(stream=True),
                call.observation,
            )
            await relay.run()
        await call.answer([answer.response()] if listed else answer.response())

    async def models(self, call: Call) -> None:
        headers, body = await self._models(call)
        await call.exchange.respond(200, [*headers, *call.headers], body)

    async def info(self, call: Call, version: str) -> None:
        _, body = await self._models(call)
        await call.answer(tgi.info(_object(body), version))

    async def _openai(self, call: Call, generation: Generation, raw: bytes) -> None:  # noqa: ARG002
        call.observation.asked(generation.body.get("model"), stream=generation.stream)
        if generation.stream:
            await self._stream(call, generation, openai_face(generation, call.request_id))
            return
        dialect = self._fleet.dialect
        asked = upstream_unary(generation, dialect.request if dialect else None)
        headers, body = await self._whole(call, "POST", generation.target, asked, generation)
        body = self._into_openai(body)
        _observe(call, generation, body)
        if speaks_tgi_chat(generation):
            body = dump(tgi_chat_answer(_object(body)))
        await call.exchange.respond(200, [*headers, *call.headers], body)

    async def _models(self, call: Call) -> tuple[HeaderList, bytes]:
        if self._fleet.catalogue is not None:
            listed = visible_models(call.principal, self._fleet.catalogue.listing())
            return [(b"content-type", b"application/json")], dump(listed)
        headers, body = await self._whole(call, "GET", "/v1/models", b"")
        models = self._fleet.dialect.models if self._fleet.dialect else None
        if models is None and call.principal.models is None:
            return headers, body
        listing = _object(body)
        return headers, dump(visible_models(call.principal, models(listing) if models else listing))

    def _into_openai(self, body: bytes) -> bytes:
        """A whole answer of an engine whose words are not OpenAI's."""
        chunk = self._fleet.dialect.chunk if self._fleet.dialect else None
        return body if chunk is None else dump(chunk(_object(body)))

    async def _stream(self, call: Call, generation: Generation, face: Face) -> None:
        async with _Stream(call, face, self._heartbeat_s) as outlet:
            relay = Relay(
                self._fleet,
                self._attempts(call, generation),
                generation,
                face,
                outlet,
                call.upstream_headers(stream=True),
                call.observation,
            )
            async with self._within(call):
                await relay.run()

    async def _whole(
        self, call: Call, method: str, target: str, body: bytes, generation: Generation | None = None
    ) -> tuple[HeaderList, bytes]:
        """An answer that is complete before any of it is passed on: whatever goes wrong can be retried."""
        call.ticket.unary()
        attempts = self._attempts(call, generation)
        async with self._within(call):
            while True:
                node = await attempts.next_node()
                try:
                    return await self._attempt(attempts, node, call, method, target, body)
                except AttemptFailed as failed:
                    attempts.judge(failed, content_sent=False)

    async def _attempt(
        self, attempts: Attempts, node: Node, call: Call, method: str, target: str, body: bytes
    ) -> tuple[HeaderList, bytes]:
        headers = [*call.upstream_headers(stream=False), *call.observation.trace_headers]
        expects: Expects = "answer" if method == "POST" else "listing"
        async with attempts.ask(node, method, target, headers, body, expects) as response:
            answer = await response.read(self._fleet.limits.max_response_bytes)
            if method == "POST":
                self._check(answer)
            self._fleet.nodes.succeeded(node)
            return passed_headers(response.headers), answer

    def _check(self, answer: bytes) -> None:
        """Raises WireError and AttemptFailed."""
        check_answer(answer)
        if holds_given_up(answer):
            raise AttemptFailed(Failure.CUT, "the engine gave the generation up")

    def _within(self, call: Call) -> Scope:
        return self._handover.within(call.deadline_s, self._fleet.clock() - call.began)

    def _attempts(self, call: Call, generation: Generation | None) -> Attempts:
        return Attempts(self._fleet, call.began + call.deadline_s, call.observation, generation)


class _Stream:
    """A client's stream, as a context. An error after its start is its last event, and is raised on."""

    __slots__ = ("_exchange", "_face", "_outlet")

    def __init__(self, call: Call, face: Face, heartbeat_s: float) -> None:
        self._exchange = call.exchange
        self._face = face
        self._outlet = Outlet(call.exchange, call.headers, heartbeat_s)

    async def __aenter__(self) -> Outlet:
        self._outlet.begin()
        return self._outlet

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, RequestRefused) and self._exchange.started:
                await self._outlet.send(self._face.error(error))
            elif error is not None:
                return
            await self._outlet.end()
        finally:
            self._outlet.close()


class EngineProxy(Proxy):
    """The node: OpenAI's routes go to its engine and back as they are, in whole events."""

    def _check(self, answer: bytes) -> None:
        """What the engine gave up is the gateway's to see, which knows another node."""
        check_answer(answer)

    async def _openai(self, call: Call, generation: Generation, raw: bytes) -> None:
        call.observation.asked(generation.body.get("model"), stream=generation.stream)
        if self._fleet.dialect is not None and self._fleet.dialect.request is not None:
            raw = dump(self._fleet.dialect.request(generation.kind, generation.body))
        if not generation.stream:
            headers, body = await self._whole(call, "POST", generation.target, raw, generation)
            body = self._into_openai(body)
            _observe(call, generation, body)
            await call.exchange.respond(200, [*headers, *call.headers], body)
            return
        face = openai_face(generation, call.request_id)
        async with _Stream(call, face, self._heartbeat_s) as outlet, self._within(call):
            await self._pass_stream(call, generation, raw, outlet)

    async def _pass_stream(self, call: Call, generation: Generation, raw: bytes, outlet: Outlet) -> None:
        events = WholeEvents()
        attempts = self._attempts(call, generation)
        engine = await attempts.next_node()
        headers = [*call.upstream_headers(stream=True), *call.observation.trace_headers]
        try:
            async with attempts.ask(engine, "POST", generation.target, headers, raw, "tokens") as response:
                if self._fleet.dialect is None or self._fleet.dialect.chunk is None:
                    response.push_to(_passer(events, outlet, call.observation))
                async for data in response.chunks():
                    before = events.count
                    frames = [self._event(event) for event in events.read(data)]
                    call.observation.tokens(len(frames))
                    if not before and frames:
                        attempts.progressed(engine)
                    await outlet.send(b"".join(frames))
                    # Not held while the next is awaited, which may be long.
                    del data, frames
            if not events.ended:
                raise AttemptFailed(Failure.CUT, "the engine ended the stream before its terminal event")
            _observe_end(call, events.tail)
        except AttemptFailed as exc:
            call.observation.attempt_failed(exc.failure.value)
            if not events.ended:
                raise given_up(exc) from exc

    def _event(self, event: Event) -> bytes:
        """Raises WireError for an event that its engine's adapter must read and cannot."""
        chunk = self._fleet.dialect.chunk if self._fleet.dialect else None
        if chunk is None or event.data is None or event.data == DONE:
            return event.raw
        try:
            return b"data: %b\n\n" % dump(chunk(json.loads(event.data)))
        except (ValueError, RecursionError, AttributeError, TypeError) as exc:
            raise WireError("an event of the engine's stream is not as its kind says it") from exc


def _allowed(call: Call, generation: Generation) -> Generation:
    """Raises ModelNotFound."""
    check_model(call.principal, generation.body.get("model"))
    return generation


def _observe_end(call: Call, tail: bytes) -> None:
    """What a stream's end says of it: an event need not be a token."""
    found = read_usage(tail)
    call.observation.finish_reason = found.finish_reason
    if found.completion:
        call.observation.usage(found.prompt, found.completion)


def _observe(call: Call, generation: Generation, answer: bytes) -> None:
    """What a whole answer says of itself."""
    seen, found = call.observation, read_usage(answer)
    seen.usage(found.prompt, found.completion)
    seen.finish_reason = found.finish_reason
    if seen.keeps_content:
        seen.content(prompt_of(generation), answer_of(answer))


def _passer(events: WholeEvents, outlet: Outlet, seen: Observation) -> Push:
    """Passes events on as they arrive, from the connection, once the stream has begun."""

    def skim(data: bytes) -> bytes:
        before = events.count
        skimmed = events.skim(data) if before and outlet.keeps_up else None
        if skimmed is None:
            return data
        outlet.push(skimmed)
        seen.tokens(events.count - before)
        return b""

    return skim


def passed_headers(headers: Headers) -> HeaderList:
    return [(name, value) for name, value in headers if name in _PASSED_HEADERS]


def _object(raw: bytes) -> Json:
    """Raises NodesFailed for an answer that is not a JSON object."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise NodesFailed("A model node answered with something other than JSON.") from exc
    if not isinstance(value, dict):
        raise NodesFailed("A model node answered with something other than a JSON object.")
    return value
