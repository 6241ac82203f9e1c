"""Streams under way: slow readers, readers that leave, many at once, and cuts where it hurts."""

import asyncio
import json
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from server import relay
from server.http.exchange import Exchange
from server.http.server import HttpServer

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "stream": True}
REQUEST = json.dumps(CHAT | {"max_tokens": 100_000}).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (
    len(REQUEST),
    REQUEST,
)
HERE = Path(relay.__file__).parent


def event(text: str, number: int, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": [number]} | more
    return b"data: %b\n\n" % json.dumps({"id": "x", "created": 1, "choices": [choice]}).encode()


class Torrent:
    """An engine that says the same token as fast as it is read, `tokens` times."""

    def __init__(self, tokens: int, padding: int) -> None:
        self.tokens = tokens
        self.padding = "x" * padding
        self.said = self.running = 0

    async def handle(self, exchange: Exchange) -> None:
        await exchange.request.body(1 << 20)
        self.running += 1
        try:
            await exchange.start(200, [(b"content-type", b"text/event-stream")])
            for number in range(self.tokens):
                await exchange.write(event(f"<{number}>" + self.padding, number))
                self.said = number + 1
            await exchange.write(event("", 1, finish_reason="stop") + b"data: [DONE]\n\n")
            await exchange.end()
        finally:
            self.running -= 1


async def torrent(stage: Any, tokens: int, padding: int = 0) -> tuple[Torrent, str]:
    engine = Torrent(tokens, padding)
    server = HttpServer(engine.handle)
    port = await server.listen("127.0.0.1", 0)
    stage.stack.push_async_callback(server.aclose, 0)
    return engine, f"127.0.0.1:{port}"


async def connected(port: int) -> socket.socket:
    """A client that reads nothing unless it is told to, with as small a buffer as there is."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    await asyncio.get_running_loop().sock_sendall(client, POST)
    return client


@pytest.mark.parametrize("role", ["gateway", "node"])
async def test_a_slow_reader_holds_the_engine_and_loses_nothing(stage: Any, until: Any, role: str) -> None:
    """What a client does not read stays with the engine; when it reads, all of it comes in order."""
    engine, address = await torrent(stage, 15_000, padding=2000)
    serving = await getattr(stage, role)(address)
    loop = asyncio.get_running_loop()
    with await connected(serving.port) as client:
        await until(lambda: engine.said > 100)
        before = -1
        while before != engine.said:
            before = engine.said
            for _ in range(2000):
                await asyncio.sleep(0)
        # Of these 32 MB the system's own buffers on the way hold up to 14.
        assert engine.said < 10_000
        got = bytearray()
        while not got.endswith(b"0\r\n\r\n"):
            got += await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 15)
    places = [got.find(b"<%d>" % number) for number in range(0, 15_000, 997)]
    assert -1 not in places
    assert places == sorted(places)
    assert got.count(b"data: [DONE]") == 1


@pytest.mark.parametrize("role", ["gateway", "node"])
async def test_the_engine_stops_when_a_reader_leaves(stage: Any, until: Any, role: str) -> None:
    """In the middle of a stream that flows a client's leaving ends the engine's work."""
    engine, address = await torrent(stage, 10_000_000)
    serving = await getattr(stage, role)(address)
    with await connected(serving.port):
        await until(lambda: engine.said > 100)
    await until(lambda: engine.running == 0)
    await until(lambda: serving.drain.running == 0)
    assert engine.said < engine.tokens


@pytest.mark.parametrize("end", ["reset", "eof", "half", "garbage", "done_early", "engine_stopped"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/generate_stream"])
async def test_a_cut_before_a_resume_has_said_anything(stage: Any, plan: Any, path: str, end: str) -> None:
    """A node that takes over and is lost at its first byte costs another resume, and nothing else."""
    body = {
        "/v1/chat/completions": CHAT,
        "/v1/completions": {"prompt": "hi", "max_tokens": 9, "stream": True},
        "/generate_stream": {"inputs": "hi", "parameters": {"max_new_tokens": 9}},
    }[path]
    expected = await (await stage.gateway((await stage.engine()).address)).post(path, body)
    plans = [plan(tokens=4, end="reset"), plan(tokens=0, end=end), plan(tokens=0, end=end)]
    engine = await stage.engine(*plans)
    gateway = await stage.gateway(engine.address, max_attempts=5, retry_budget_minimum=10)
    got = await gateway.post(path, body)
    assert (got.text, got.clean) == (expected.text, True)
    assert [event["tokens"] for event in gateway.events("request.resumed")] == [4, 4, 4]


async def test_many_streams_take_little_memory(stage: Any, plan: Any, until: Any) -> None:
    """A stream that waits holds little, though a burst came before; its engine's connection counts too."""
    streams, tokens = 60, 200
    engine = await stage.engine(default=plan(tokens=tokens, end="hang"))
    gateway = await stage.gateway(engine.address, request_deadline_seconds=600)
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        asked = [
            asyncio.create_task(gateway.post("/v1/chat/completions", CHAT | {"max_tokens": 250}))
            for _ in range(streams)
        ]
        await until(lambda: engine.running == streams)
        for _ in range(3000):
            await asyncio.sleep(0)
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
        engine.release.set()
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"{HERE}/*")]
    growth = after.filter_traces(ours).compare_to(before.filter_traces(ours), "filename")
    assert sum(line.size_diff for line in growth) < streams * 32 * 1024
    answers = await asyncio.gather(*asked)
    assert {answer.clean for answer in answers} == {True}
