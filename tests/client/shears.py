"""A way to a service that is cut."""

from __future__ import annotations

import itertools
import socket
import struct
import sys
import threading
from collections.abc import Sequence

_NOBODY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Shears:
    """A TCP proxy that resets each connection after so many bytes of answers; the last number repeats.

    Connections go to the ports `upstreams` in turn; for one where nobody listens it answers as Envoy does.
    """

    def __init__(self, upstreams: Sequence[int], lengths: Sequence[int]) -> None:
        self._turns = itertools.cycle(upstreams)
        self._lengths = list(lengths)
        self.cuts = 0
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
            self._threads.append(
                threading.Thread(target=self._relay, args=(client, next(self._turns), length))
            )
            self._threads[-1].start()

    def _relay(self, client: socket.socket, port: int, length: int) -> None:
        with client, socket.socket() as upstream:
            self._open += [client, upstream]
            if upstream.connect_ex(("127.0.0.1", port)):
                client.recv(65536)
                client.sendall(_NOBODY)
                return
            asking = threading.Thread(target=_pump, args=(client, upstream))
            asking.start()
            self.cuts += not _pump(upstream, client, length)
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


def _pump(source: socket.socket, sink: socket.socket, length: int = sys.maxsize) -> int:
    """What is left of `length` at the source's end."""
    try:
        while length and (data := source.recv(min(length, 4096))):
            sink.sendall(data)
            length -= len(data)
        if length:
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return length
