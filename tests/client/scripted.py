"""A scripted service on raw loopback sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

WORDS = ["Der ", "Mond ", "ist ", "auf", "gegan", "gen, ", "die ", "gold", "nen ", "Stern", "lein ", "prän"]
PROMPT_IDS = [7, 8, 9]
FIRST_ID = 100

Act = Callable[["Connection", "Seen"], bool]  # True: the connection stays open for another request


@dataclass
class Seen:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    address: str


@dataclass
class Connection:
    sock: socket.socket
    number: int
    left: threading.Event = field(default_factory=threading.Event)

    def head(self, status: int, *headers: str, kind: str = "text/event-stream") -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", *headers]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def piece(self, data: bytes) -> None:
        self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def reset(self) -> bool:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def await_leaving(self) -> bool:
        """Until the client closes its side."""
        try:
            while self.sock.recv(4096):
                pass
        except OSError:
            pass
        self.left.set()
        return False


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


class Service:
    """Answers each request by the next act; the last act repeats."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self._acts: deque[Act] = deque()
        self._last: Act | None = None
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.connections: list[Connection] = []
        self.seen: list[Seen] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self._spawn(self._accept)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def then(self, *acts: Act) -> Service:
        self._acts.extend(acts)
        return self

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, len(self.connections))
            self.connections.append(connection)
            self._open.add(sock)
            self._spawn(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        with connection.sock, connection.sock.makefile("rb") as reader:
            try:
                while (seen := self._read(reader, connection)) and self._next()(connection, seen):
                    pass
            except OSError:
                pass
        connection.left.set()

    def _read(self, reader: Any, connection: Connection) -> Seen | None:
        first = reader.readline().decode()
        if not first:
            return None
        headers: dict[str, str] = {}
        while line := reader.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        raw = reader.read(length)
        if len(raw) < length:
            return None
        address = connection.sock.getsockname()[0]
        seen = Seen(first.split()[1], headers, json.loads(raw) if raw else {}, connection.number, address)
        with self._lock:
            self.seen.append(seen)
        return seen

    def _next(self) -> Act:
        with self._lock:
            if self._acts:
                self._last = self._acts.popleft()
            assert self._last is not None, "the test scripted no act"
            return self._last

    def close(self) -> None:
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


class Acts:
    """What a service can do with one request."""

    words = WORDS
    text = "".join(WORDS)
    prompt_ids = PROMPT_IDS

    @staticmethod
    def reset(connection: Connection, _seen: Seen) -> bool:
        return connection.reset()

    @staticmethod
    def close(_connection: Connection, _seen: Seen) -> bool:
        return False

    @staticmethod
    def silence(connection: Connection, _seen: Seen) -> bool:
        return connection.await_leaving()

    @staticmethod
    def answer(status: int, body: object, *headers: str) -> Act:
        def act(connection: Connection, seen: Seen) -> bool:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.head(status, f"content-length: {len(raw)}", *headers, kind="application/json")
            connection.sock.sendall(raw)
            return True

        return act

    @classmethod
    def refuse(cls, status: int, *headers: str, code: str = "busy", kind: str = "server_error") -> Act:
        return cls.answer(status, cls.error("no", code, kind), *headers)

    @staticmethod
    def error(message: str, code: str | None, kind: str = "server_error") -> dict[str, object]:
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    @classmethod
    def whole(cls, connection: Connection, seen: Seen) -> bool:
        """The full answer, not streamed."""
        text = {"message": {"role": "assistant", "content": cls.text}}
        choice = {
            "index": 0,
            "finish_reason": "stop",
            **(text if "chat" in seen.path else {"text": cls.text}),
        }
        usage = {"prompt_tokens": 3, "completion_tokens": len(WORDS), "total_tokens": 15}
        return cls.answer(200, {"id": "x", "choices": [choice], "usage": usage})(connection, seen)

    @classmethod
    def speak(
        cls,
        *,
        events: int | None = None,
        cut: Act | None = None,
        ids: bool = True,
        raw: bytes = b"",
        tail: bool = True,
        split: int = 0,
    ) -> Act:
        """A model that continues WORDS from wherever the request's prompt ends. With `cut`: `events` words,
        then `raw`, then the cut. `split`: the stream arrives in pieces of that many bytes."""

        def act(connection: Connection, seen: Seen) -> bool:
            connection.head(200, "transfer-encoding: chunked")
            stream = b"".join(_words(seen, ids, events)) + raw
            if cut is None:
                stream += _end(seen) if tail else b""
            for start in range(0, len(stream), split or len(stream) or 1):
                connection.piece(stream[start : start + (split or len(stream))])
            if cut is not None:
                return cut(connection, seen)
            connection.sock.sendall(b"0\r\n\r\n")
            return True

        return act


def _position(seen: Seen) -> int:
    """How many words the request already holds, as a model would find out."""
    prompt = seen.body.get("prompt")
    if isinstance(prompt, list):
        assert prompt[: len(PROMPT_IDS)] == PROMPT_IDS
        assert prompt[3:] == list(range(FIRST_ID, FIRST_ID + len(prompt) - 3))
        return len(prompt) - len(PROMPT_IDS)
    said = prompt.removeprefix("Sing!") if isinstance(prompt, str) else ""
    if seen.body.get("continue_final_message"):
        said = seen.body["messages"][-1]["content"]
    return next(n for n in range(len(WORDS) + 1) if "".join(WORDS[:n]) == said)


def _words(seen: Seen, ids: bool, events: int | None) -> Iterator[bytes]:
    chat, start = "chat" in seen.path, _position(seen)
    allowed = min(len(WORDS), start + seen.body["max_tokens"])
    stop = allowed if events is None else min(allowed, start + events)
    for n in range(start, stop):
        choice: dict[str, object] = {"index": 0, "finish_reason": None}
        choice |= {"delta": {"content": WORDS[n]}} if chat else {"text": WORDS[n]}
        holder = {"prompt_token_ids": [*PROMPT_IDS, *range(FIRST_ID, FIRST_ID + start)]}
        first = ids and n == start
        choice |= {"token_ids": [FIRST_ID + n]} if ids else {}
        choice |= holder if first and not chat else {}
        yield event({"id": "x", "choices": [choice], **(holder if first and chat else {})})


def _end(seen: Seen) -> bytes:
    start = _position(seen)
    count = min(len(WORDS) - start, seen.body["max_tokens"])
    reason = "stop" if start + count == len(WORDS) else "length"
    usage = {"prompt_tokens": 3 + start, "completion_tokens": count}
    last = {"index": 0, "finish_reason": reason, "delta": {}, "text": ""}
    return event({"choices": [last]}) + event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"
