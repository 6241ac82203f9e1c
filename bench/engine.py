"""A fake engine that speaks OpenAI's API, far faster than any gateway: `python -m bench.engine --port N`.

Asyncio protocols on uvloop; every event of a stream was made before. `GET /_bench` says what it has seen
and `POST /_bench` sets its pace and how it fails. SIGTERM ends it as it ends vLLM's server: it listens no
more at once, what runs gets a short grace, what still runs is cut.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import click
import uvloop

from bench.frames import MODEL, STREAM_HEAD, Frames, Json, Kind, Shape, json_answer, unary
from bench.tokens import Prompt, read_prompt

Failing = Literal["no", "unavailable", "reset-kept"]

GRACE_S = 0.5
_BURST = 32
_PATHS: dict[bytes, Kind] = {b"/v1/completions": "completions", b"/v1/chat/completions": "chat"}
_UNAVAILABLE = json_answer(
    503, {"error": {"message": "no", "type": "server_error", "param": None, "code": "unavailable"}}
)
_NOT_FOUND = json_answer(
    404, {"error": {"message": "no such path", "type": "invalid_request_error", "param": None, "code": None}}
)
_MODEL = {"id": MODEL, "object": "model", "created": 0, "owned_by": "bench", "max_model_len": 131_072}
_MODELS = json_answer(200, {"object": "list", "data": [_MODEL]})
_HEALTHY = json_answer(200, {"status": "ok"})
_KEPT_ANSWERS = 4096


@dataclass
class Engine:
    """What all connections share. `pace_s` is the time of one token, 0 for as fast as it goes; a stream's
    first token takes `first_s`, or `pace_s` too.
    """

    pace_s: float = 0.0
    first_s: float | None = None
    failing: Failing = "no"
    served: int = 0
    hung_up: dict[int, float] = field(default_factory=dict)
    frames: dict[Shape, Frames] = field(default_factory=dict)
    answers: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    connections: set[Connection] = field(default_factory=set)

    def frames_of(self, shape: Shape) -> Frames:
        found = self.frames.get(shape)
        if found is None:
            found = self.frames[shape] = Frames(shape)
        return found

    def state(self) -> Json:
        """`running`: keys of requests; `hung_up`: of those whose client went, when, in monotonic s."""
        return {"served": self.served, "running": self.running, "hung_up": self.hung_up}

    @property
    def running(self) -> list[int]:
        return [connection.key for connection in self.connections if connection.key is not None]

    def set(self, wanted: Json) -> None:
        self.pace_s = float(wanted.get("pace_ms", self.pace_s * 1000)) / 1000
        if "first_ms" in wanted:
            self.first_s = float(wanted["first_ms"]) / 1000
        failing = wanted.get("failing", self.failing)
        assert failing in get_args(Failing)
        self.failing = failing


@dataclass(slots=True)
class Stream:
    """A stream that runs: the absolute position of its next token, and of its last."""

    frames: Frames
    prompt: Prompt
    position: int
    last: int
    usage: bool
    due: float

    def take(self, count: int) -> bytes:
        """The next `count` tokens, the last of all excluded."""
        at, self.position = self.position, self.position + count
        if at == len(self.prompt.ids):
            return self.frames.first(self.prompt.ids) + self.frames.some(at + 1, count - 1)
        return self.frames.some(at, count)

    @property
    def ending(self) -> bytes:
        prompt_tokens = len(self.prompt.ids)
        return self.frames.ending(self.last, prompt_tokens, self.last + 1 - prompt_tokens, usage=self.usage)


class Connection(asyncio.Protocol):
    """One connection: requests one after another."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self.key: int | None = None
        self._answered = 0
        self._stream: Stream | None = None
        self._timer: asyncio.Handle | None = None
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._engine.connections.discard(self)
        if self.key is not None:
            self._engine.hung_up[self.key] = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
        self._transport = self._stream = self.key = None

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._stream is not None and self._timer is None:
            self._timer = self._loop.call_soon(self._burst)

    def data_received(self, data: bytes) -> None:
        self._rest = self._rest + data if self._rest else data
        head_end = self._rest.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._rest[:head_end]
        end = head_end + 4 + content_length(head)
        if len(self._rest) < end:
            return
        body, self._rest = self._rest[head_end + 4 : end], self._rest[end:]
        self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        kind = _PATHS.get(path)
        if kind is not None:
            self._generate(kind, body)
        elif path == b"/_bench":
            self._control(method, body)
        else:
            self._write({b"/health": _HEALTHY, b"/v1/models": _MODELS}.get(path, _NOT_FOUND))

    def _control(self, method: bytes, body: bytes) -> None:
        if method == b"POST":
            self._engine.set(json.loads(body))
        self._write(json_answer(200, self._engine.state()))

    def _generate(self, kind: Kind, body: bytes) -> None:
        engine = self._engine
        if engine.failing == "unavailable":
            self._write(_UNAVAILABLE)
            return
        if engine.failing == "reset-kept" and self._answered and self._transport is not None:
            self._transport.abort()
            return
        kept = engine.answers.get(body) if engine.pace_s == 0 else None
        if kept is not None:
            self._answer(kept)
            return
        self._ask(kind, body)

    def _ask(self, kind: Kind, raw: bytes) -> None:
        body = json.loads(raw)
        prompt = read_prompt(body)
        count = body.get("max_tokens") or body.get("max_completion_tokens") or 16
        shape = Shape(kind, prompt.key, bool(body.get("return_token_ids")))
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            self._begin(shape, prompt, count, usage=usage)
            return
        answer = unary(shape, prompt, count)
        if self._engine.pace_s == 0:
            self._engine.answers[raw] = answer
            if len(self._engine.answers) > _KEPT_ANSWERS:
                self._engine.answers.popitem(last=False)
            self._answer(answer)
        else:
            self.key = prompt.key
            self._timer = self._loop.call_later(self._engine.pace_s * count, self._answer, answer)

    def _begin(self, shape: Shape, prompt: Prompt, count: int, *, usage: bool) -> None:
        engine = self._engine
        start, frames = len(prompt.ids), engine.frames_of(shape)
        self.key = prompt.key
        self._write(STREAM_HEAD + frames.opening(prompt.ids))
        first_s = engine.pace_s if engine.first_s is None else engine.first_s
        due = self._loop.time() + first_s
        self._stream = Stream(frames, prompt, start, start + count - 1, usage, due)
        if engine.pace_s:
            self._timer = self._loop.call_at(due, self._token)
        else:
            self._timer = self._loop.call_soon(self._burst)

    def _token(self) -> None:
        """One token in its time, however late the last one was."""
        stream = self._stream
        if stream is None:
            return
        if stream.position == stream.last:
            self._finish(stream)
            return
        self._write(stream.take(1))
        stream.due += self._engine.pace_s
        self._timer = self._loop.call_at(stream.due, self._token)

    def _burst(self) -> None:
        """As many tokens as the reader takes, in turns with the other streams."""
        self._timer = None
        stream = self._stream
        if stream is None or self.paused:
            return
        count = min(_BURST, stream.last - stream.position)
        if count == 0:
            self._finish(stream)
            return
        self._write(stream.take(count))
        if not self.paused:
            self._timer = self._loop.call_soon(self._burst)

    def _finish(self, stream: Stream) -> None:
        self._stream = None
        self._answer(stream.ending)

    def _answer(self, answer: bytes) -> None:
        self.key = self._timer = None
        self._answered += 1
        self._engine.served += 1
        self._write(answer)
        if self._rest:
            self.data_received(b"")

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def stop(self, *, cut: bool) -> None:
        """Close if nothing runs here, or at once."""
        if self._transport is not None and (cut or self.key is None):
            self._transport.abort() if cut else self._transport.close()


def content_length(head: bytes) -> int:
    at = head.find(b"ontent-")
    while at >= 0:
        line = head[at + 7 : at + 40]
        if line[:7].lower() == b"length:":
            return int(line[7:].split(b"\r", 1)[0])
        at = head.find(b"ontent-", at + 7)
    return 0


async def serve(listener: socket.socket) -> None:
    """Until SIGTERM and its grace."""
    loop = asyncio.get_running_loop()
    engine, stopped = Engine(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: Connection(engine, loop), sock=listener, backlog=4096)
    click.echo("ready")
    await stopped.wait()
    server.close()
    for connection in list(engine.connections):
        connection.stop(cut=False)
    if engine.running:
        await asyncio.sleep(GRACE_S)
    for connection in list(engine.connections):
        connection.stop(cut=True)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, required=True)
def main(host: str, port: int) -> None:
    """Serve on a loopback address until SIGTERM."""
    uvloop.run(serve(socket.create_server((host, port), backlog=4096)))


if __name__ == "__main__":
    main()
