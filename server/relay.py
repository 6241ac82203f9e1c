"""One stream from nodes to a client: relayed, and resumed where it is cut."""

import asyncio
import json

from server.ask import Fleet
from server.attempts import Attempts
from server.engines import ENGINE_HEADER, Capabilities, capabilities_of
from server.errors import AttemptFailed, EngineRefused, HeaderList, WireError
from server.faces import Face
from server.http.client import UpstreamResponse
from server.http.errors import UpstreamError
from server.http.upstream import Push
from server.leg_reader import LegReader
from server.observation import Observation
from server.outlet import Sink
from server.record import Record
from server.resume import Leg, closing_chunks, finished_by_length, first_leg, next_leg
from server.retry import Action, Failure
from server.upstreams import Node
from server.wire.jsonbody import Json
from server.wire.openai import Delta, Generation, read_chunk, upstream_stream
from server.wire.usage import prompt_of, tokens_of

# After the terminal event an upstream has this long to end its body, so that its connection can be kept.
_LINGER_S = 0.5
_MAX_MODELS_BYTES = 256 * 1024


class Relay:
    """Runs one generation to its end. Frames go to `sink` in whole events."""

    def __init__(
        self,
        fleet: Fleet,
        attempts: Attempts,
        generation: Generation,
        face: Face,
        sink: Sink,
        headers: HeaderList,
        observation: Observation,
    ) -> None:
        self._fleet = fleet
        self._attempts = attempts
        self._face = face
        self._sink = sink
        self._headers = headers
        self._observation = observation
        self._ended = False
        self._answered_by: str | None = None
        self.record = Record(generation)

    async def run(self) -> None:
        """Raises RequestRefused for what the client must be told, ClientGone when it has left.

        Returns only when the client's stream has had its terminal event.
        """
        leg = first_leg(self.record.generation)
        while not self._ended:
            node = await self._attempts.next_node()
            try:
                await self._run_leg(leg, node)
                self._observe()
            except AttemptFailed as failed:
                self.record.settle(self._capabilities)
                if self.record.complete or finished_by_length(self.record):
                    await self._end()
                    self._observe()
                    return
                leg = await self._leg_after(failed)

    def _observe(self) -> None:
        """What the whole stream was."""
        seen, record = self._observation, self.record
        if record.usage is not None:
            seen.usage(tokens_of(record.usage, "prompt_tokens"), tokens_of(record.usage, "completion_tokens"))
        seen.finish_reason = record.finish_reason
        if seen.keeps_content:
            seen.content(prompt_of(record.generation), record.text)

    async def _leg_after(self, failed: AttemptFailed) -> Leg:
        action = self._attempts.judge(failed, content_sent=self.record.started)
        context = await self._context_tokens() if action is Action.RESUME else None
        leg = next_leg(self.record, context, self._capabilities)
        if leg.resumed:
            mode = "tokens" if leg.exact else "text"
            self._observation.resumed(mode, failed.failure.value, self.record.count)
        return leg

    @property
    def _capabilities(self) -> Capabilities:
        """Of the engine that answered last: its node says what it is, else the settings."""
        dialect = self._fleet.dialect
        return capabilities_of(self._answered_by or (dialect.kind if dialect else None))

    async def _run_leg(self, leg: Leg, node: Node) -> None:
        dialect = self._fleet.dialect
        reader = LegReader(leg, self.record, self._face, dialect.chunk if dialect else None)
        headers = [*self._headers, *self._observation.trace_headers]
        body = upstream_stream(leg.kind, leg.body, dialect.request if dialect else None)
        try:
            async with self._attempts.ask(node, "POST", leg.target, headers, body, "tokens") as response:
                _check_is_stream(response)
                self._answered_by = response.headers.get(ENGINE_HEADER)
                response.push_to(self._skimmer(reader, node))
                async for data in response.chunks():
                    await self._take(reader, data, node)
                    # Not held while the next is awaited, which may be long.
                    del data
                    if self._ended:
                        response.push_to(None)
                        self._fleet.nodes.succeeded(node)
                        await _linger(response)
                        return
                raise AttemptFailed(Failure.CUT, "the node ended the stream before its terminal event")
        finally:
            reader.settle()

    def _skimmer(self, reader: LegReader, node: Node) -> Push:
        """Relays token events as they arrive, from the connection: nearly all that a stream is."""
        sink, seen, nodes = self._sink, self._observation, self._fleet.nodes

        def skim(data: bytes) -> bytes:
            if not sink.keeps_up:
                return data
            before = reader.tokens
            skimmed = reader.skim(data)
            if skimmed is None:
                return data
            sink.push(skimmed[0])
            seen.tokens(reader.tokens - before)
            if node.unproven:
                nodes.answered(node)
            return skimmed[1]

        return skim

    async def _take(self, reader: LegReader, data: bytes, node: Node) -> None:
        """Relays what arrived together in one write; what came before a failure is still relayed."""
        if node.unproven:
            self._fleet.nodes.answered(node)
        before = reader.tokens
        frames: list[bytes] = []
        try:
            frames.extend(reader.frames(data))
            if reader.done:
                frames += self._last_frames()
        finally:
            self._count(reader.tokens - before, first=not before, node=node)
            await self._sink.send(b"".join(frames))

    def _count(self, tokens: int, *, first: bool, node: Node) -> None:
        if not tokens:
            return
        self._observation.tokens(tokens)
        if first:
            self._attempts.progressed(node)

    def _last_frames(self) -> list[bytes]:
        """Raises AttemptFailed when the stream says it is over and has no finish reason."""
        if not self.record.complete:
            raise AttemptFailed(Failure.CUT, "the node ended the stream without a finish reason")
        return self._closing_frames()

    async def _end(self) -> None:
        await self._sink.send(b"".join(self._closing_frames()))

    def _closing_frames(self) -> list[bytes]:
        self._ended = True
        kind = self.record.generation.kind
        chunks = closing_chunks(self.record)
        return [*(self._face.chunk(chunk, _delta(kind, chunk)) for chunk in chunks), self._face.end()]

    async def _context_tokens(self) -> int | None:
        """The model's context length, needed only to continue a chat that set no limit of its own."""
        generation = self.record.generation
        if generation.kind != "chat" or generation.max_tokens is not None:
            return None
        asked: set[Node] = set()
        while (node := self._fleet.nodes.pick(asked, model=self._attempts.model)) is not None:
            asked.add(node)
            length = await self._context_length_of(node)
            if length is not None:
                return length
        # Then the resume is by text, which needs no length.
        return None

    async def _context_length_of(self, node: Node) -> int | None:
        generation = self.record.generation
        try:
            async with self._attempts.ask(
                node, "GET", "/v1/models", self._headers, b"", "listing"
            ) as response:
                return _context_length(await response.read(_MAX_MODELS_BYTES), generation.body.get("model"))
        except (AttemptFailed, EngineRefused):
            return None


def _delta(kind: str, chunk: Json) -> Delta:
    return read_chunk("chat" if kind == "chat" else "completions", chunk)


def _context_length(raw: bytes, model: object) -> int | None:
    """`max_model_len` is vLLM's field of a model in the list."""
    try:
        listed = json.loads(raw).get("data") or []
        lengths = {item.get("id"): item.get("max_model_len") for item in listed}
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None
    found = lengths.get(model) or next(iter(lengths.values()), None)
    return found if isinstance(found, int) else None


def _check_is_stream(response: UpstreamResponse) -> None:
    content_type = response.headers.get("content-type") or ""
    if not content_type.startswith("text/event-stream"):
        raise WireError("the node did not answer with a stream")


async def _linger(response: UpstreamResponse) -> None:
    try:
        async with asyncio.timeout(_LINGER_S):
            async for _ in response.chunks():
                continue
    except (TimeoutError, UpstreamError):
        # The client has all of it: how the upstream goes on from here is of no interest.
        return
