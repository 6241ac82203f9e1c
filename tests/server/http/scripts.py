"""What upstreams answer, and handlers that do not come to an end."""

import asyncio
import json

from server.http.server import Exchange

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


def sends(*pieces: bytes, reset=False):
    """A script: read one request, answer with `pieces`, close."""

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if reset:
            writer.transport.abort()

    return script


async def hang(_: Exchange) -> None:
    await asyncio.get_running_loop().create_future()


async def stream_then_hang(exchange: Exchange) -> None:
    await exchange.start(200, [])
    await exchange.write(b"first")
    await hang(exchange)


def half_a_request(*headers: bytes) -> bytes:
    """A completion whose body never comes to its end."""
    lines = [b"POST /v1/completions HTTP/1.1", b"host: a", b"content-length: 50", *headers]
    return b"\r\n".join(lines) + b'\r\n\r\n{"prompt'


def body_of(answer: bytes) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return parsed
