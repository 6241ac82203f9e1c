"""An endpoint on loopback that answers as it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

WORDS = ("one ", "two ", "three ")


class Endpoint:
    """Serves one model. Streams wait until `together` of them are there; `status` other than 200 refuses, and
    `refused` all but the request that measures prompts."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.status = 200
        self.together = 1
        self.cut = False
        self.refused = False
        self.url = ""
        self._met = asyncio.Event()
        self._there = 0
        self.reached = threading.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader):
                await self._answer(*request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, dict[str, object]] | None:
        first = (await reader.readline()).decode()
        if not first:
            return None
        length = 0
        while line := (await reader.readline()).decode().strip().lower():
            length = (
                int(line.removeprefix("content-length:")) if line.startswith("content-length:") else length
            )
        body = await reader.readexactly(length)
        return first.split()[1], json.loads(body) if body else {}

    async def _answer(self, path: str, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        if self.status != 200:
            self._whole(writer, self.status, {"error": {"message": "no", "type": "refused", "code": "no"}})
        elif path == "/v1/models":
            self._whole(writer, 200, {"object": "list", "data": [{"id": "a-model", "object": "model"}]})
        else:
            await self._stream(body, writer)
        await writer.drain()

    def _whole(self, writer: asyncio.StreamWriter, status: int, answer: object) -> None:
        data = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    async def _stream(self, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        measured = body["max_tokens"] == 1
        if self.refused and not measured:
            self._whole(writer, 400, {"error": {"message": "no", "type": "refused", "code": "no"}})
            return
        if not measured:
            self.asked.append(body)
            await self._meet()
        writer.write(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for word in WORDS:
            writer.write(_event({"choices": [{"index": 0, "delta": {"content": word}}]}))
            await writer.drain()
        if self.cut and not measured:
            writer.transport.abort()
            return
        writer.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        usage = {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103}
        writer.write(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def _meet(self) -> None:
        self._there += 1
        self.reached.set()
        if self._there >= self.together:
            self._met.set()
        await self._met.wait()


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """In the test's own loop."""
    found = Endpoint()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield found
    server.close()


@pytest.fixture
def served() -> Iterator[Endpoint]:
    """In a loop of its own thread, for tests that block."""
    ready, ends = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()
    found = list[Endpoint]()

    async def live() -> None:
        stop = asyncio.Event()
        found.append(Endpoint())
        ends.append((asyncio.get_running_loop(), stop))
        server = await asyncio.start_server(found[0].serve, "127.0.0.1", 0)
        found[0].url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    loop, stop = ends[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
