"""The client against the embedded engine, its streams cut by a proxy in between."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

PROMPTS = ["Über die Drähte", "A notice is"]
MODEL = "goldenfleet-embedded"


@pytest.fixture(scope="module")
def engine() -> Iterator[int]:
    """The port of a running engine."""
    command = [sys.executable, "-m", "server.engine", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ), text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
        process.terminate()
        process.wait(20)


class Shears:
    """A TCP proxy that resets each connection after so many bytes of answers; the last number repeats."""

    def __init__(self, upstream: int, lengths: list[int]) -> None:
        self._upstream = upstream
        self._lengths = lengths
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            length = self._lengths.pop(0) if len(self._lengths) > 1 else self._lengths[0]
            self._threads.append(threading.Thread(target=self._relay, args=(client, length)))
            self._threads[-1].start()

    def _relay(self, client: socket.socket, length: int) -> None:
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            self._open += [client, upstream]
            asking = threading.Thread(target=_pump, args=(client, upstream))
            asking.start()
            _pump(upstream, client, length)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for sock in (upstream, client):
                _shut(sock)
            asking.join(10)

    def close(self) -> None:
        for sock in (self._listener, *self._open):
            _shut(sock)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _pump(source: socket.socket, sink: socket.socket, length: int = sys.maxsize) -> None:
    try:
        while length and (data := source.recv(min(length, 4096))):
            sink.sendall(data)
            length -= len(data)
        if length:
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def shears(engine: int, request: pytest.FixtureRequest) -> Iterator[Shears]:
    made = Shears(engine, list(request.param))
    yield made
    made.close()


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
@pytest.mark.parametrize("shears", [[700, 2300, 1100, 900, 10**9]], indirect=True)
def test_cut_streams_say_what_whole_ones_say(callers: Any, engine: int, shears: Shears, chat: bool) -> None:
    """Through any cuts the joined text of a real engine is its undisturbed text, to the last character."""
    undisturbed = callers(f"http://127.0.0.1:{engine}", model=MODEL)
    cut = callers(shears.url, model=MODEL)
    for prompt in PROMPTS:
        whole = _read(undisturbed, prompt, chat)
        joined = _read(cut, prompt, chat)
        assert joined.error is None
        assert joined.result.text == joined.text == whole.text
        assert joined.result.finish_reason == whole.result.finish_reason
        assert joined.result.usage == whole.result.usage
        assert joined.result.exact
    assert any(event.__class__.__name__ == "Resumed" for event in cut.events)


def _read(caller: Any, prompt: str, chat: bool) -> Any:
    what = [{"role": "user", "content": prompt}] if chat else prompt
    return caller.read_of("chat_stream" if chat else "generate_stream", what, max_tokens=48)
