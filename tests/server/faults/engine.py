"""A paced engine in a process of its own: `python -m tests.server.faults.engine`; prints its port.

A token is one character, which depends on its position alone, as greedy decoding would. `POST /control` with
a mode says how it fails from then on. SIGTERM ends it as uvicorn ends an engine's server: it listens no more,
what runs has a moment, and what still runs is cut.
"""

import asyncio
import json
import signal
import socket
import struct
import sys
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyzäöü€"
TOKEN_S = 0.02
WHOLE_S = 0.06
GRACE_S = 0.3
SLOW_S = 1.2
# Modes: well; unavailable: 503 to every generation; resets: a reset instead of a second answer on a
# connection; mute: healthy without a token; slow: a long time to the first token.


def text_of(prompt_tokens: int, tokens: int) -> str:
    """What a prompt of so many tokens is continued with."""
    return "".join(LETTERS[(prompt_tokens + at) % len(LETTERS)] for at in range(tokens))


class Engine:
    def __init__(self) -> None:
        self.mode = "well"
        self.answers = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            served = 0
            while request := await _read(reader):
                if self.mode == "resets" and served:
                    _reset(writer)
                    return
                await self._answer(writer, *request)
                served += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
        if path == "/control":
            self.mode = body.decode()
            _whole(writer, 200, {"answers": self.answers})
        elif path in ("/health", "/v1/models"):
            _whole(writer, 200, {"object": "list", "data": [{"id": "paced", "max_model_len": 4096}]})
        elif path != "/v1/completions":
            _whole(writer, 404, {"error": {"message": "no", "type": "x", "param": None, "code": "no_path"}})
        elif self.mode == "unavailable":
            _whole(writer, 503, {"error": {"message": "no", "type": "x", "param": None, "code": "busy"}})
        else:
            await self._generate(writer, json.loads(body))
            self.answers += 1
        await writer.drain()

    async def _generate(self, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        prompt = asked["prompt"]
        ids = list(map(ord, prompt)) if isinstance(prompt, str) else prompt
        text = text_of(len(ids), asked["max_tokens"])
        if self.mode == "mute":
            await asyncio.Event().wait()
        if self.mode == "slow":
            await _pause(SLOW_S)
        if asked.get("stream"):
            await self._stream(writer, ids, text)
            return
        await _pause(WHOLE_S)
        _whole(writer, 200, _chunk([{"index": 0, "text": text, "finish_reason": "length"}]))

    async def _stream(self, writer: asyncio.StreamWriter, ids: list[int], text: str) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for at, letter in enumerate(text):
            await _pause(TOKEN_S)
            if self.mode == "mute":
                await asyncio.Event().wait()
            choice = {"index": 0, "text": letter, "finish_reason": None, "token_ids": [ord(letter)]}
            _event(writer, json.dumps(_chunk([choice | ({} if at else {"prompt_token_ids": ids})])))
            await writer.drain()
        _event(writer, json.dumps(_chunk([{"index": 0, "text": "", "finish_reason": "length"}])))
        counts = {
            "prompt_tokens": len(ids),
            "completion_tokens": len(text),
            "total_tokens": len(ids) + len(text),
        }
        _event(writer, json.dumps(_chunk([]) | {"usage": counts}))
        _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")


async def _read(reader: asyncio.StreamReader) -> tuple[str, bytes] | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    lengths = [int(line.partition(":")[2]) for line in head if line.startswith("content-length:")]
    return head[0].split(" ")[1], await reader.readexactly(lengths[0] if lengths else 0)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _whole(writer: asyncio.StreamWriter, status: int, body: object) -> None:
    raw = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)


def _event(writer: asyncio.StreamWriter, data: str) -> None:
    raw = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(raw), raw))


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "c", "object": "text_completion", "created": 1, "model": "paced", "choices": choices}


async def _pause(seconds: float) -> None:
    """The time that a token takes to make."""
    made = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, made.set_result, None)
    await made


async def main() -> None:
    engine, terminated = Engine(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await terminated.wait()
    server.close()
    await _pause(GRACE_S)
    for writer in list(engine.writers):
        writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(main())
