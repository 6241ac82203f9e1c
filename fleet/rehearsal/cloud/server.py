"""The HTTP server in front of moto: on loopback, quiet, and gone when it is closed."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.sqs.models import Queue, SQSBackend
from werkzeug.serving import make_server

from fleet.rehearsal.cloud.errors import CloudError
from fleet.rehearsal.cloud.patches import Patches
from fleet.rehearsal.cloud.traffic import Traffic

_HOST = "127.0.0.1"
_POLL_SLICE_SECONDS = 0.2  # how long a long poll may outlive the server
_CLOSE_SECONDS = 5.0


class Server:
    """Serves moto's API at `endpoint_url` from threads of its own."""

    def __init__(self, port: int) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.traffic = Traffic()
        self._connections = _Connections()
        self._socket = _bound(port)
        self._server = make_server(
            _HOST,
            self._socket.getsockname()[1],
            self.traffic.around(DomainDispatcherApplication(create_backend_app)),
            threaded=True,
            request_handler=_handler(self._connections),
            fd=self._socket.fileno(),
        )
        self.endpoint_url = f"http://{_HOST}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="cloud-api")
        self._thread.daemon = True
        self._thread.start()

    @property
    def closing(self) -> bool:
        return self._connections.closing

    def close(self) -> None:
        """End every connection and thread; the port is free on return."""
        self._connections.closing = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._socket.close()
        self._connections.end(_CLOSE_SECONDS)


class _Connections:
    """The connections being served, so that idle ones can be ended."""

    def __init__(self) -> None:
        self.closing = False
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()

    def add(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.add(connection)

    def remove(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def end(self, seconds: float) -> None:
        with self._changed:
            for connection in self._open:
                _shut(connection)
            self._changed.wait_for(lambda: not self._open, timeout=seconds)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:  # the other side has gone already
        return


def _handler(connections: _Connections) -> type[MotoRequestHandler]:
    class Handler(MotoRequestHandler):
        def setup(self) -> None:
            super().setup()
            connections.add(self.connection)

        def finish(self) -> None:
            try:
                super().finish()
            finally:
                connections.remove(self.connection)

        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  werkzeug's name
            if type == "error":
                super().log(type, message, *args)

    return Handler


def _bound(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((_HOST, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise CloudError(
            f"the emulated cloud cannot listen on {_HOST}:{port}: {error.strerror}",
            "end what listens there, or name port 0 for any free one",
        ) from error
    return found


def install(is_closing: Callable[[], bool], patches: Patches) -> None:
    """Let SQS long polls end soon after the server is closed."""

    def make_receive(original: Any) -> Any:
        def receive_message(
            self: SQSBackend, queue_name: str, count: int, wait: float, *args: Any, **kwargs: Any
        ) -> Any:
            ends = time.monotonic() + wait
            while True:
                left = ends - time.monotonic()
                found = original(
                    self, queue_name, count, max(0.0, min(left, _POLL_SLICE_SECONDS)), *args, **kwargs
                )
                if found or left <= _POLL_SLICE_SECONDS or is_closing():
                    return found

        return receive_message

    def make_wait(original: Any) -> Any:
        def wait_for_messages(self: Queue, timeout: float) -> None:
            original(self, min(timeout, _POLL_SLICE_SECONDS))

        return wait_for_messages

    patches.wrap(SQSBackend, "receive_message", make_receive)
    patches.wrap(Queue, "wait_for_messages", make_wait)
